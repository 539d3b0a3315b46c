// The part of the CUDA runtime library that kernel files use. Included by cuda_runtime.h.
#pragma once

using cudaError_t = int;
enum : int {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorIllegalAddress = 700,
    cudaErrorLaunchTimeout = 702,
    cudaErrorAssert = 710,
    cudaErrorLaunchFailure = 719,
};
enum cudaMemcpyKind {
    cudaMemcpyHostToHost = 0,
    cudaMemcpyHostToDevice = 1,
    cudaMemcpyDeviceToHost = 2,
    cudaMemcpyDeviceToDevice = 3,
    cudaMemcpyDefault = 4,
};
enum cudaDeviceAttr {
    cudaDevAttrMaxThreadsPerBlock = 1,
    cudaDevAttrMaxSharedMemoryPerBlock = 8,
    cudaDevAttrWarpSize = 10,
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

template <class T>
inline cudaError_t cudaMalloc(T** pointer, std::size_t size) {
    void* made = nullptr;
    int error = emu_malloc(&made, size);
    *pointer = static_cast<T*>(made);
    return error;
}
template <class T>
inline cudaError_t cudaMallocAsync(T** pointer, std::size_t size, cudaStream_t) {
    return cudaMalloc(pointer, size);
}
inline cudaError_t cudaFree(void* pointer) { return emu_free(pointer); }
inline cudaError_t cudaFreeAsync(void* pointer, cudaStream_t) { return emu_free(pointer); }
inline cudaError_t cudaMemcpy(void* to, const void* from, std::size_t size, cudaMemcpyKind kind) {
    return emu_copy(to, from, size, kind);
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t size,
                                   cudaMemcpyKind kind, cudaStream_t = nullptr) {
    return emu_copy(to, from, size, kind);
}
inline cudaError_t cudaMemset(void* pointer, int value, std::size_t size) {
    return emu_set(pointer, value, size);
}
inline cudaError_t cudaMemsetAsync(void* pointer, int value, std::size_t size,
                                   cudaStream_t = nullptr) {
    return emu_set(pointer, value, size);
}
template <class T>
inline cudaError_t cudaMemcpyToSymbol(const T& symbol, const void* from, std::size_t size,
                                      std::size_t offset = 0) {
    return emu_copy_symbol(const_cast<void*>(static_cast<const volatile void*>(&symbol)), from,
                           size, offset);
}
inline cudaError_t cudaGetLastError() { return emu_last_error(1); }
inline cudaError_t cudaPeekAtLastError() { return emu_last_error(0); }
inline cudaError_t cudaDeviceSynchronize() { return emu_synchronize(); }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return emu_synchronize(); }
template <class Kernel>
inline cudaError_t cudaFuncSetAttribute(Kernel, cudaFuncAttribute, int value) {
    return emu_allow_shared(value);
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    *value = emu_attribute(attribute);
    return *value < 0 ? cudaErrorInvalidValue : cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}
inline const char* cudaGetErrorString(cudaError_t error) {
    switch (error) {
        case cudaSuccess: return "no error";
        case cudaErrorInvalidValue: return "invalid argument";
        case cudaErrorMemoryAllocation: return "out of memory";
        case cudaErrorInvalidConfiguration: return "invalid configuration argument";
        case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
        case cudaErrorLaunchTimeout: return "the launch timed out and was terminated";
        case cudaErrorAssert: return "device-side assert triggered";
        default: return "unspecified launch failure";
    }
}
