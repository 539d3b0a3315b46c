// What was found, kept once a place; and the report as JSON, which Python turns into sentences.
#include <cinttypes>
#include <cstdio>

#include "machine.h"

namespace emu {

namespace {

constexpr std::size_t MAX_ERRORS = 64, MAX_WARNINGS = 32;

void text(std::string& out, const std::string& value) {
    out += '"';
    for (unsigned char c : value) {
        if (c == '"' || c == '\\') {
            out += '\\';
            out += static_cast<char>(c);
        } else if (c < 0x20 || c >= 0x7f) {
            char escaped[8];
            std::snprintf(escaped, sizeof escaped, "\\u%04x", c);
            out += escaped;
        } else {
            out += static_cast<char>(c);
        }
    }
    out += '"';
}

template <class Number>
void number(std::string& out, const char* name, Number value) {
    out += '"';
    out += name;
    out += "\":" + std::to_string(value) + ",";
}

void triple(std::string& out, const char* name, uint3 value) {
    out += '"';
    out += name;
    out += "\":[" + std::to_string(value.x) + "," + std::to_string(value.y) + "," +
           std::to_string(value.z) + "],";
}

void named(std::string& out, const char* name, const std::string& value) {
    out += '"';
    out += name;
    out += "\":";
    text(out, value);
    out += ',';
}

void close(std::string& out, char bracket) {
    if (out.back() == ',') out.pop_back();
    out += bracket;
}

void write_line(std::string& out, std::uint64_t key, const LineCounts& line) {
    out += '{';
    number(out, "pc", key >> 8);
    number(out, "access", key & 15);
    number(out, "space", (key >> 4) & 15);
    number(out, "requests", line.requests);
    number(out, "sectors", line.sectors);
    number(out, "sectors_min", line.sectors_min);
    number(out, "wavefronts", line.wavefronts);
    number(out, "wavefronts_min", line.wavefronts_min);
    number(out, "bytes", line.bytes);
    number(out, "lanes", line.lanes);
    number(out, "partial", line.partial);
    number(out, "worst_degree", line.worst_degree);
    number(out, "sample_size", line.sample_size);
    out += "\"sample\":[";
    for (std::int64_t offset : line.sample) out += std::to_string(offset) + ",";
    close(out, ']');
    close(out, '}');
}

void write_launch(std::string& out, const LaunchRecord& launch) {
    out += '{';
    named(out, "kernel", launch.kernel);
    number(out, "line", launch.line);
    number(out, "module", launch.module);
    triple(out, "grid", launch.grid);
    triple(out, "block", launch.block);
    number(out, "shared_bytes", launch.shared_bytes);
    number(out, "blocks", launch.blocks);
    number(out, "blocks_run", launch.blocks_run);
    number(out, "barriers", launch.barriers);
    number(out, "warp_syncs", launch.warp_syncs);
    number(out, "shuffles", launch.shuffles);
    out += "\"lines\":[";
    for (const auto& [key, line] : launch.lines) {
        write_line(out, key, line);
        out += ',';
    }
    close(out, ']');
    close(out, '}');
}

void write_diagnostic(std::string& out, const Diagnostic& found) {
    out += '{';
    named(out, "kind", found.kind);
    named(out, "text", found.text);
    named(out, "variable", found.variable);
    number(out, "error", static_cast<int>(found.error));
    number(out, "module", found.module);
    number(out, "launch", found.launch);
    number(out, "pc", found.pc);
    number(out, "other_pc", found.other_pc);
    number(out, "line", found.line);
    number(out, "other_line", found.other_line);
    number(out, "barrier_line", found.barrier_line);
    number(out, "block", found.who.block);
    number(out, "thread", found.who.thread);
    number(out, "other_block", found.other.block);
    number(out, "other_thread", found.other.thread);
    number(out, "space", static_cast<int>(found.space));
    number(out, "access", static_cast<int>(found.access));
    number(out, "allocation", found.allocation);
    number(out, "offset", found.offset);
    number(out, "size", found.size);
    number(out, "count", found.count);
    close(out, '}');
}

}  // namespace

Diagnostic describe(const char* kind, bool error, const Thread* thread) {
    Diagnostic found;
    found.kind = kind;
    found.error = error;
    found.module = machine.module;
    found.launch = static_cast<int>(machine.launches.size()) - 1;
    if (thread && !thread->is_host) {
        found.who = {thread->context->block_linear, thread->linear};
    } else {
        found.launch = -1;
    }
    return found;
}

void report(Diagnostic found) {
    std::string key = found.kind + (found.error ? "!" : "?") + std::to_string(found.module) + ":" +
                      std::to_string(found.pc) + ":" + std::to_string(found.other_pc) + ":" +
                      std::to_string(found.line) + ":" + std::to_string(found.other_line);
    auto [place, fresh] = machine.known.emplace(key, machine.diagnostics.size());
    if (!fresh) {
        ++machine.diagnostics[place->second].count;
        return;
    }
    const std::size_t warnings = machine.diagnostics.size() - machine.errors;
    if (found.error ? machine.errors < MAX_ERRORS : warnings < MAX_WARNINGS) {
        machine.errors += found.error;
        machine.diagnostics.push_back(std::move(found));
    } else {
        ++machine.dropped;
        machine.known.erase(place);
    }
}

void fail(Diagnostic found, int error) {
    report(std::move(found));
    machine.last_error = error;
    machine.stopping = true;
    if (Thread* thread = current) {
        thread->context->fatal = true;
        end_thread();
    }
    __builtin_trap();  // a fault outside of any call: a defect of the emulator
}

std::string report_json() {
    std::string out = "{\"launches\":[";
    for (const LaunchRecord& launch : machine.launches) {
        write_launch(out, launch);
        out += ',';
    }
    close(out, ']');
    out += ",\"diagnostics\":[";
    for (const Diagnostic& found : machine.diagnostics) {
        write_diagnostic(out, found);
        out += ',';
    }
    close(out, ']');
    out += ',';
    named(out, "unfinished", machine.unfinished);
    named(out, "output", machine.output);
    number(out, "error", machine.last_error);
    number(out, "dropped", machine.dropped);
    close(out, '}');
    return out;
}

}  // namespace emu
