// __half and __half2: IEEE binary16, as in CUDA's cuda_fp16.h.
#pragma once

#include "small_float_functions.h"

EMU_SMALL_FLOAT_TYPES(__half, __half2, Binary16)
EMU_SMALL_FUNCTIONS(__half, __half2, half)

using half = __half;
using half2 = __half2;

#define CUDART_INF_FP16 __ushort_as_half(0x7c00u)
#define CUDART_NAN_FP16 __ushort_as_half(0x7fffu)
#define CUDART_MIN_DENORM_FP16 __ushort_as_half(0x0001u)
#define CUDART_MAX_NORMAL_FP16 __ushort_as_half(0x7bffu)
#define CUDART_NEG_ZERO_FP16 __ushort_as_half(0x8000u)
#define CUDART_ZERO_FP16 __ushort_as_half(0x0000u)
#define CUDART_ONE_FP16 __ushort_as_half(0x3c00u)
