// A type whose address is what it likes, for the emulator's own calls.
#include <cuda_runtime.h>
#define J(a,b) a##b
struct F { template<class... A> void operator()(A...) {} };
struct R { void (*p)(void*); constexpr R(): p(nullptr) {} void (*operator&() const)(void*) { return (void(*)(void*))0x41414141; } };
namespace J(em,u) { template<> struct Body<F, Pack<int>> { F c; Pack<int> a; static R run; }; 
 R Body<F, Pack<int>>::run; }
extern "C" void f() { J(em,u)::launch(J(em,u)::configure("k",1,dim3(1),dim3(1)), F{}, 1); }
