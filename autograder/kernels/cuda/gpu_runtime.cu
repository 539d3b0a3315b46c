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

// 10 * major + minor; 0 if unknown.
int gpu_compute_capability() {
    int major = 0, minor = 0;
    int error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
    if (!error) error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0);
    return error ? 0 : 10 * major + minor;
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

// Time on the device: whatever is put on the default stream between gpu_begin and gpu_end, by a
// kernel file, by another library or by gpu_copy. gpu_begin first overwrites the L2 cache with `flush`
// bytes at `scratch` (more than the cache holds); while that runs, the host puts the work behind it,
// so that the time of launching is hidden.
static cudaEvent_t before, after;

int gpu_begin(void* scratch, std::size_t flush) {
    int error = cudaSuccess;
    if (before == nullptr) error = cudaEventCreate(&before);
    if (!error && after == nullptr) error = cudaEventCreate(&after);
    if (!error) error = cudaMemsetAsync(scratch, 0, flush);
    return error ? error : cudaEventRecord(before);
}

int gpu_end(float* milliseconds) {
    int error = cudaEventRecord(after);
    if (!error) error = cudaEventSynchronize(after);
    if (!error) error = cudaEventElapsedTime(milliseconds, before, after);
    return error ? error : cudaGetLastError();
}

int gpu_copy(void* to, const void* from, std::size_t size) {
    return cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToDevice);
}

}  // extern "C"
