// cub::WarpReduce under its own name.
#pragma once

#include "../cub.cuh"
