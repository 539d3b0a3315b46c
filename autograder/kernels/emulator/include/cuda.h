// The driver API is not part of the subset: this only lets its include line pass.
#pragma once

#include "cuda_runtime.h"
