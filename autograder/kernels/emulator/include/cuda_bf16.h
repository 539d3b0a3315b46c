// __nv_bfloat16 and __nv_bfloat162: the upper half of a float, as in CUDA's cuda_bf16.h.
#pragma once

#include "small_float_functions.h"

EMU_SMALL_FLOAT_TYPES(__nv_bfloat16, __nv_bfloat162, Bfloat16)
EMU_SMALL_FUNCTIONS(__nv_bfloat16, __nv_bfloat162, bfloat16)

using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

#define CUDART_INF_BF16 __ushort_as_bfloat16(0x7f80u)
#define CUDART_NAN_BF16 __ushort_as_bfloat16(0x7fffu)
#define CUDART_MIN_DENORM_BF16 __ushort_as_bfloat16(0x0001u)
#define CUDART_MAX_NORMAL_BF16 __ushort_as_bfloat16(0x7f7fu)
#define CUDART_NEG_ZERO_BF16 __ushort_as_bfloat16(0x8000u)
#define CUDART_ZERO_BF16 __ushort_as_bfloat16(0x0000u)
#define CUDART_ONE_BF16 __ushort_as_bfloat16(0x3f80u)
