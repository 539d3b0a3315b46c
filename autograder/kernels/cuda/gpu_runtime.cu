// What Python needs of a GPU: memory, copies, errors and time. Built by nvcc, used by gpu.py.
//
// Kernel files are libraries of their own with the runtime linked in; all of them share the
// device's primary context, so addresses and sticky errors are common to them.
#include <cuda_runtime.h>

#include <cstddef>

extern "C" {

int gpu_count() {
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

const char* gpu_name() {
    static cudaDeviceProp properties;
    return cudaGetDeviceProperties(&properties, 0) == cudaSuccess ? properties.name : "unknown";
}

const char* gpu_error_text(int error) {
    return cudaGetErrorString(static_cast<cudaError_t>(error));
}

int gpu_allocate(void** address, std::size_t size) {
    int error = cudaMalloc(address, size);
    // All bits 1, as on the emulator: a result that was never written shows as NaN.
    return error ? error : cudaMemset(*address, 0xff, size);
}

int gpu_free(void* address) { return cudaFree(address); }

int gpu_write(void* address, const void* from, std::size_t size) {
    return cudaMemcpy(address, from, size, cudaMemcpyHostToDevice);
}

int gpu_read(void* to, const void* address, std::size_t size) {
    return cudaMemcpy(to, address, size, cudaMemcpyDeviceToHost);
}

int gpu_synchronize() {
    int error = cudaDeviceSynchronize();
    return error ? error : cudaGetLastError();
}

// Milliseconds of device time for one call of `entry(arguments)`, after the L2 cache was overwritten
// with `flush` bytes at `scratch` (more than the cache holds). Negative: an error.
float gpu_time(void (*entry)(void**), void** arguments, void* scratch, std::size_t flush) {
    cudaEvent_t start, end;
    float milliseconds = -1;
    cudaEventCreate(&start);
    cudaEventCreate(&end);
    cudaMemsetAsync(scratch, 0, flush);
    cudaEventRecord(start);
    entry(arguments);
    cudaEventRecord(end);
    if (cudaEventSynchronize(end) != cudaSuccess ||
        cudaEventElapsedTime(&milliseconds, start, end) != cudaSuccess) {
        milliseconds = -1;
    }
    cudaEventDestroy(start);
    cudaEventDestroy(end);
    return milliseconds;
}

}  // extern "C"
