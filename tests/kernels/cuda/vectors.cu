// Vector types and device mathematics, for test_vectors.py.
#include <cfloat>
#include <cmath>
#include <cuda_runtime.h>
#include <math_constants.h>

struct Affine {
    float4 scale, shift;
    int n;
};
__constant__ float4 offsets[2] = {{1.0f, 2.0f, 3.0f, 4.0f}, {5.0f}};

// One 16-byte load and one 16-byte store a thread; the struct is a kernel argument.
__global__ void affine(const float* in, float* out, Affine by) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= by.n) return;
    float4 v = reinterpret_cast<const float4*>(in)[i];
    v.x = v.x * by.scale.x + by.shift.x;
    v.y = v.y * by.scale.y + by.shift.y;
    v.z = v.z * by.scale.z + by.shift.z;
    v.w = v.w * by.scale.w + by.shift.w;
    reinterpret_cast<float4*>(out)[i] = v;
}
extern "C" void launch_affine(const float* in, float* out, float scale, int n) {
    const float4 all = {scale, scale, scale, scale};
    affine<<<(n + 63) / 64, 64>>>(in, out, Affine{all, make_float4(0.0f, 1.0f, 2.0f, 3.0f), n});
}

template <class T>
__global__ void copy(const T* in, T* out) {
    out[threadIdx.x] = in[threadIdx.x];
}
template <class T>
void copy_as(const float* in, float* out) {
    copy<T><<<1, 32>>>(reinterpret_cast<const T*>(in), reinterpret_cast<T*>(out));
}
// type: the components' count and kind
extern "C" void launch_copy(int type, const float* in, float* out) {
    switch (type) {
        case 0: copy_as<float>(in, out); break;
        case 1: copy_as<float2>(in, out); break;
        case 2: copy_as<float3>(in, out); break;
        case 3: copy_as<float4>(in, out); break;
        case 4: copy_as<int4>(in, out); break;
        case 5: copy_as<char4>(in, out); break;
        case 6: copy_as<short2>(in, out); break;
        case 7: copy_as<double2>(in, out); break;
        case 8: copy_as<longlong2>(in, out); break;
        case 9: copy_as<uchar2>(in, out); break;
    }
}

__global__ void initialise(float4* out) {
    float4 partly = {1.0f, 2.0f};
    float4 none = {};
    float4 later;
    later.x = 1.0f;
    later.y = later.z = later.w = 9.0f;
    const float4 all{1.0f, 2.0f, 3.0f, 4.0f};
    const float4 table[2] = {{1.0f, 1.0f, 1.0f, 1.0f}, make_float4(2.0f, 2.0f, 2.0f, 2.0f)};
    union {
        float4 whole;
        float parts[4];
    } both;
    both.whole = all;
    both.parts[1] += 10.0f;
    out[0] = partly;
    out[1] = none;
    out[2] = later;
    out[3] = all;
    out[4] = table[threadIdx.x + 1];
    out[5] = both.whole;
    out[6] = offsets[threadIdx.x];
    out[7] = offsets[threadIdx.x + 1];
}
extern "C" void launch_initialise(float* out) {
    initialise<<<1, 1>>>(reinterpret_cast<float4*>(out));
}

// ---- mathematics: out[operation * n + i]
__global__ void functions(const float* in, float* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const float x = in[i], positive = fabsf(x) + 0.01f;
    float s, c;
    sincosf(x, &s, &c);
    float values[] = {
        expf(x), __expf(x), exp2f(x), exp10f(x), logf(positive), __logf(positive),
        log2f(positive), log10f(positive), rsqrtf(positive), sqrtf(positive), tanhf(x), erff(x),
        fmaf(x, x, positive), powf(positive, x), __powf(positive, x), __fdividef(x, positive),
        __frcp_rn(positive), __fsqrt_rn(positive), sinf(x), cosf(x), s, c, __sinf(x), __cosf(x),
        normcdff(x), exp(x), fmaxf(x, 0.5f), fminf(x, 0.5f), max(x, 0.5f), min(x, 0.5f),
        __saturatef(x), rintf(x), truncf(x), floorf(x), ceilf(x), copysignf(1.0f, x)};
    for (int k = 0; k < static_cast<int>(sizeof(values) / sizeof(float)); ++k) {
        out[k * n + i] = values[k];
    }
}
extern "C" void launch_functions(const float* in, float* out, int n) {
    functions<<<(n + 63) / 64, 64>>>(in, out, n);
}

__global__ void integers(const int* a, const int* b, int* out, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const int x = a[i], y = b[i];
    const unsigned p = x, q = y;
    const char4 u = make_char4(x, x >> 8, x >> 16, x >> 24);
    const char4 v = make_char4(y, y >> 8, y >> 16, y >> 24);
    int values[] = {__popc(p), __clz(x), __ffs(x), static_cast<int>(__brev(p)), __mulhi(x, y),
                    static_cast<int>(__umulhi(p, q)), __mul24(x, y), __dp4a(x, y, 7),
                    static_cast<int>(__dp4a(p, q, 7u)), __dp4a(u, v, 7),
                    static_cast<int>(__byte_perm(p, q, 0xb715)), min(x, y), max(x, y),
                    static_cast<int>(max(p, q)), static_cast<int>(__funnelshift_l(p, q, 5)),
                    static_cast<int>(__sad(x, y, 1u)), abs(x >> 1),
                    __float_as_int(__int_as_float(x))};
    for (int k = 0; k < static_cast<int>(sizeof(values) / sizeof(int)); ++k) {
        out[k * n + i] = values[k];
    }
}
extern "C" void launch_integers(const int* a, const int* b, int* out, int n) {
    integers<<<(n + 63) / 64, 64>>>(a, b, out, n);
}

__global__ void conversions(const float* in, int* out, int n) {
    const int i = threadIdx.x;
    if (i >= n) return;
    const float x = in[i];
    int values[] = {__float2int_rn(x), __float2int_rz(x), __float2int_ru(x), __float2int_rd(x),
                    static_cast<int>(__float2uint_rn(x)), isnan(x), isinf(x), signbit(x),
                    isfinite(x), x == CUDART_INF_F, x <= FLT_MAX};
    for (int k = 0; k < static_cast<int>(sizeof(values) / sizeof(int)); ++k) {
        out[k * n + i] = values[k];
    }
}
extern "C" void launch_conversions(const float* in, int* out, int n) {
    conversions<<<1, 64>>>(in, out, n);
}

// Loads and stores with hints count as what they are, in this file's lines.
__global__ void hinted(const float4* in, float4* out) {
    const float4 v = __ldg(&in[threadIdx.x]);
    const float w = __ldcs(reinterpret_cast<const float*>(in) + threadIdx.x);
    __stcs(&out[threadIdx.x], make_float4(v.x, v.y, v.z, w));
}
extern "C" void launch_hinted(const float* in, float* out) {
    hinted<<<1, 32>>>(reinterpret_cast<const float4*>(in), reinterpret_cast<float4*>(out));
}
