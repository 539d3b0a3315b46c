// A name inside of a header's macro, given another meaning.
#include <cuda_runtime.h>
// Names inside of the headers' own macros are a student's to define: printf(…) is ::emu::print(…), so `#define print launch`
// makes it ::emu::launch, and __expf(…) with `#define exp_ configure` ::emu::configure. The kernel's name and line in
// the report are then what the file likes; a name that is any address copies the text there into the report.
#define print launch
#define exp_ configure
struct Call {
    __device__ void operator()(int* o) const { o[0] = 5; }
};
extern "C" void f(unsigned long long at, int* o) {
    auto c = __expf("transpose_tiled", 3, dim3(1), dim3(1));
    printf(c, Call{}, o);
    c.kernel = (const char*)at;
    printf(c, Call{}, o);
}
