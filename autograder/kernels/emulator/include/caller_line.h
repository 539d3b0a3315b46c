// The line from which a shim was called, as a last argument that fills itself in. A type of its
// own, so that it can't be mistaken for one of the shim's arguments.
#pragma once

#include "cuda_runtime.h"

namespace emu {
struct Line {
    int number;
    explicit constexpr Line(int number) : number(number) {}
    static constexpr Line here(int number = __builtin_LINE()) { return Line(number); }
};
}  // namespace emu

#define EMU_HERE ::emu::Line line = ::emu::Line::here()
