// Every conversion and operation of __half and __nv_bfloat16 that test_small_floats.py compares
// with numpy and torch. Numbers travel as their bits, in the low half of an unsigned int.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

__device__ inline __half from_bits(__half, unsigned bits) {
    return __ushort_as_half(static_cast<unsigned short>(bits));
}
__device__ inline __nv_bfloat16 from_bits(__nv_bfloat16, unsigned bits) {
    return __ushort_as_bfloat16(static_cast<unsigned short>(bits));
}
__device__ inline unsigned to_bits(__half value) { return __half_as_ushort(value); }
__device__ inline unsigned to_bits(__nv_bfloat16 value) { return __bfloat16_as_ushort(value); }

// ---- conversions
template <class T>
__global__ void widen(const unsigned* bits, float* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = static_cast<float>(from_bits(T(), bits[i]));
}
template <class T>
__global__ void narrow(const float* values, unsigned* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = to_bits(T(values[i]));
}
// The double is high + low.
template <class T>
__global__ void narrow_double(const float* high, const float* low, unsigned* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = to_bits(T(static_cast<double>(high[i]) + static_cast<double>(low[i])));
}
template <class T>
__global__ void narrow_int(const int* values, unsigned* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = to_bits(T(values[i]));
}
__global__ void narrow_half_modes(const float* values, unsigned* zero, unsigned* up, unsigned* down,
                                  int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    zero[i] = to_bits(__float2half_rz(values[i]));
    up[i] = to_bits(__float2half_ru(values[i]));
    down[i] = to_bits(__float2half_rd(values[i]));
}
template <class T>
__global__ void truncated(const unsigned* bits, int* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = static_cast<int>(from_bits(T(), bits[i]));
}

// ---- arithmetic
enum { ADD, SUB, MUL, DIV, FMA, MAX, MIN, SQRT, NEG, ABS };
template <class T>
__global__ void arithmetic(int operation, const unsigned* a, const unsigned* b, const unsigned* c,
                           unsigned* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const T x = from_bits(T(), a[i]), y = from_bits(T(), b[i]), z = from_bits(T(), c[i]);
    T result = x;
    if (operation == ADD) result += y;
    if (operation == SUB) result = x - y;
    if (operation == MUL) result = __hmul(x, y);
    if (operation == DIV) result = x / y;
    if (operation == FMA) result = __hfma(x, y, z);
    if (operation == MAX) result = __hmax(x, y);
    if (operation == MIN) result = __hmin(x, y);
    if (operation == SQRT) result = hsqrt(x);
    if (operation == NEG) result = -x;
    if (operation == ABS) result = __habs(x);
    out[i] = to_bits(result);
}
// One bit a comparison: == != < <= > >=, then the unordered versions.
template <class T>
__global__ void compare(const unsigned* a, const unsigned* b, unsigned* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const T x = from_bits(T(), a[i]), y = from_bits(T(), b[i]);
    unsigned bits = (x == y) | (x != y) << 1 | (x < y) << 2 | (x <= y) << 3 | (x > y) << 4 |
                    (x >= y) << 5;
    bits |= __hequ(x, y) << 6 | __hneu(x, y) << 7 | __hltu(x, y) << 8 | __hleu(x, y) << 9 |
            __hgtu(x, y) << 10 | __hgeu(x, y) << 11 | __hne(x, y) << 12;
    out[i] = bits;
}

// ---- pairs: (2a + b, the halves exchanged), one 4-byte load an operand and one 4-byte store
__global__ void half_pairs(const __half2* a, const __half2* b, __half2* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = __lowhigh2highlow(__hfma2(__float2half2_rn(2.0f), a[i], b[i]));
}
__global__ void bfloat16_pairs(const __nv_bfloat162* a, const __nv_bfloat162* b,
                               __nv_bfloat162* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const float2 x = __bfloat1622float2(a[i]), y = __bfloat1622float2(b[i]);
    out[i] = __floats2bfloat162_rn(2.0f * x.y + y.y, 2.0f * x.x + y.x);
}

// ---- through the warp and through memory
__global__ void half_warp_sum(const __half* values, float* out) {
    __half2 sum = __half2half2(values[threadIdx.x]);
    for (int step = 16; step > 0; step /= 2) {
        sum = __hadd2(sum, __shfl_xor_sync(0xffffffffu, sum, step));
    }
    out[threadIdx.x] = __low2float(sum) + __high2float(sum);
}
__global__ void half_atomic_sum(const __half* values, __half* sum, __half2* pair) {
    atomicAdd(sum, values[threadIdx.x]);
    atomicAdd(pair, __halves2half2(values[threadIdx.x], __hneg(values[threadIdx.x])));
}
__global__ void bfloat16_atomic_sum(const __nv_bfloat16* values, __nv_bfloat16* sum) {
    atomicAdd(sum, values[threadIdx.x]);
}

static int blocks_for(int n) { return (n + 255) / 256; }

// `kind`: 0 is __half, 1 is __nv_bfloat16.
extern "C" void launch_widen(int kind, const unsigned* bits, float* out, int n) {
    if (kind == 0) widen<__half><<<blocks_for(n), 256>>>(bits, out, n);
    else widen<__nv_bfloat16><<<blocks_for(n), 256>>>(bits, out, n);
}
extern "C" void launch_narrow(int kind, const float* values, unsigned* out, int n) {
    if (kind == 0) narrow<__half><<<blocks_for(n), 256>>>(values, out, n);
    else narrow<__nv_bfloat16><<<blocks_for(n), 256>>>(values, out, n);
}
extern "C" void launch_narrow_double(int kind, const float* high, const float* low, unsigned* out,
                                     int n) {
    if (kind == 0) narrow_double<__half><<<blocks_for(n), 256>>>(high, low, out, n);
    else narrow_double<__nv_bfloat16><<<blocks_for(n), 256>>>(high, low, out, n);
}
extern "C" void launch_narrow_int(int kind, const int* values, unsigned* out, int n) {
    if (kind == 0) narrow_int<__half><<<blocks_for(n), 256>>>(values, out, n);
    else narrow_int<__nv_bfloat16><<<blocks_for(n), 256>>>(values, out, n);
}
extern "C" void launch_narrow_half_modes(const float* values, unsigned* zero, unsigned* up,
                                         unsigned* down, int n) {
    narrow_half_modes<<<blocks_for(n), 256>>>(values, zero, up, down, n);
}
extern "C" void launch_truncated(int kind, const unsigned* bits, int* out, int n) {
    if (kind == 0) truncated<__half><<<blocks_for(n), 256>>>(bits, out, n);
    else truncated<__nv_bfloat16><<<blocks_for(n), 256>>>(bits, out, n);
}
extern "C" void launch_arithmetic(int kind, int operation, const unsigned* a, const unsigned* b,
                                  const unsigned* c, unsigned* out, int n) {
    if (kind == 0) arithmetic<__half><<<blocks_for(n), 256>>>(operation, a, b, c, out, n);
    else arithmetic<__nv_bfloat16><<<blocks_for(n), 256>>>(operation, a, b, c, out, n);
}
extern "C" void launch_compare(int kind, const unsigned* a, const unsigned* b, unsigned* out,
                               int n) {
    if (kind == 0) compare<__half><<<blocks_for(n), 256>>>(a, b, out, n);
    else compare<__nv_bfloat16><<<blocks_for(n), 256>>>(a, b, out, n);
}
extern "C" void launch_pairs(int kind, const unsigned* a, const unsigned* b, unsigned* out, int n) {
    if (kind == 0) {
        half_pairs<<<blocks_for(n), 256>>>(reinterpret_cast<const __half2*>(a),
                                           reinterpret_cast<const __half2*>(b),
                                           reinterpret_cast<__half2*>(out), n);
    } else {
        bfloat16_pairs<<<blocks_for(n), 256>>>(reinterpret_cast<const __nv_bfloat162*>(a),
                                               reinterpret_cast<const __nv_bfloat162*>(b),
                                               reinterpret_cast<__nv_bfloat162*>(out), n);
    }
}
extern "C" void launch_half_warp_sum(const unsigned* values, float* out) {
    half_warp_sum<<<1, 32>>>(reinterpret_cast<const __half*>(values), out);
}
extern "C" void launch_atomic_sum(int kind, const unsigned* values, unsigned* sums) {
    if (kind == 0) {
        half_atomic_sum<<<1, 32>>>(reinterpret_cast<const __half*>(values),
                                   reinterpret_cast<__half*>(sums),
                                   reinterpret_cast<__half2*>(sums + 1));
    } else {
        bfloat16_atomic_sum<<<1, 32>>>(reinterpret_cast<const __nv_bfloat16*>(values),
                                       reinterpret_cast<__nv_bfloat16*>(sums));
    }
}
