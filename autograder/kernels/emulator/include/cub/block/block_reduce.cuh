// cub::BlockReduce under its own name.
#pragma once

#include "../cub.cuh"
