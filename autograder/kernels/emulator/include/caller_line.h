// The line from which a shim was called, as a last argument that fills itself in. A type of its
// own, so that it can't be mistaken for one of the shim's arguments, nor given by hand.
#pragma once

namespace emu {
class Line {
public:
    int number;
    template <class T>
    Line(T&&) = delete;  // what converts to any type deduces this one too
    Line(Line&) = default;
    Line(const Line&) = default;
    static constexpr Line emu_here(int number = __builtin_LINE()) { return Line(number); }
    constexpr operator int() const { return number; }

private:
    explicit constexpr Line(int number) : number(number) {}
};
}  // namespace emu

#define EMU_HERE ::emu::Line line = ::emu::Line::emu_here()
