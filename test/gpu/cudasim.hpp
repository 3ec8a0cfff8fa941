// The simulated driver's model: streams, memory, modules, and the rules of capture. See cudasim.cpp.
#pragma once

#include <cuda.h>
#include <dlfcn.h>
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using Work = std::function<void()>;
using Graph = std::vector<Work>;

struct Stream {
  std::deque<Work> queue;
  std::unique_ptr<Graph> capture;   // set while this stream is being captured
  std::thread::id capturer;
  bool spoiled = false;             // the capture met a call that may not be captured
};

struct Event {
  bool recorded = false, done = true;
  Clock::time_point time;
  Stream* stream = nullptr;
};

struct Block {  // device or page-locked memory
  size_t size;
  bool device, mapped;
  char* map;
  size_t map_size;
};

struct Function {
  std::string name;
  void (*run)(const unsigned* grid_and_block, void** arguments, char* buffer);
};

struct Module {
  void* library;
  int file;  // open as long as the library is, which is known by this number
  std::map<std::string, Function> functions;
};

struct Failure {
  int first = 0, last = 0;
  CUresult code = CUDA_ERROR_UNKNOWN;
  bool for_good = false;            // a lost device: from then on everything fails
};

std::recursive_mutex mutex;
bool initialised = false;
int primary_count = 0;              // retains of the primary context
char primary;                       // its address is the context's handle
int graphs = 0;                     // instantiated ones
thread_local std::vector<void*> stack;
Stream null_stream;
std::set<Stream*> streams;
std::map<char*, Block> blocks;
std::map<std::string, long> counts;
std::map<std::string, Failure> failures;
CUresult lost = CUDA_SUCCESS;

const char kPoison = '\xff';
const char kCanary = '\x5a';

bool legacy(CUstream handle) { return reinterpret_cast<size_t>(handle) <= 2; }

// Counts an occurrence and says whether it is to fail.
CUresult occurrence(const std::string& name) {
  const long number = ++counts[name];
  const auto found = failures.find(name);
  if (found == failures.end()) return CUDA_SUCCESS;
  const Failure& failure = found->second;
  if (number < failure.first || number > failure.last) return CUDA_SUCCESS;
  if (failure.for_good) lost = failure.code;
  return failure.code;
}

void drain(Stream& stream) {
  while (!stream.queue.empty()) {
    Work work = std::move(stream.queue.front());
    stream.queue.pop_front();
    if (lost == CUDA_SUCCESS) work();
  }
}

void drain_all() {
  drain(null_stream);
  for (Stream* stream : streams) drain(*stream);
}

Stream* capturing(bool in_this_thread) {
  for (Stream* stream : streams)
    if (stream->capture && (!in_this_thread || stream->capturer == std::this_thread::get_id()))
      return stream;
  return nullptr;
}

enum { kInit = 1, kContext = 2, kNotInCapture = 4 };

// What every call begins with: count it, fail it if wanted, check the rules.
CUresult enter(const char* name, int needs) {
  if (CUresult failure = occurrence(name)) return failure;
  if ((needs & (kInit | kContext)) && !initialised) return CUDA_ERROR_NOT_INITIALIZED;
  if ((needs & kContext) && (stack.empty() || (stack.back() == &primary && !primary_count)))
    return CUDA_ERROR_INVALID_CONTEXT;
  if ((needs & kContext) && lost != CUDA_SUCCESS) return lost;
  if (needs & kNotInCapture) {
    if (Stream* stream = capturing(true)) {
      stream->spoiled = true;
      return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
  }
  return CUDA_SUCCESS;
}

CUresult enqueue(CUstream handle, Work work) {
  if (legacy(handle)) {  // waits for all other streams, and is waited for
    if (Stream* stream = capturing(false)) {
      stream->spoiled = true;
      return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
    drain_all();
    work();
    return lost;
  }
  Stream& stream = *reinterpret_cast<Stream*>(handle);
  if (stream.capture)
    stream.capture->push_back(std::move(work));
  else
    stream.queue.push_back(std::move(work));
  return CUDA_SUCCESS;
}

// The block that holds these bytes entirely, or null.
const Block* holder(const void* address, size_t size) {
  char* begin = static_cast<char*>(const_cast<void*>(address));
  auto above = blocks.upper_bound(begin);
  if (above == blocks.begin()) return nullptr;
  const auto& [start, block] = *std::prev(above);
  return begin + size <= start + block.size ? &block : nullptr;
}

// Maps memory whose end lies at a guard page, up to the alignment that the driver promises.
char* map_block(size_t size, bool device, bool mapped) {
  const size_t page = 4096, alignment = 256;
  const size_t padded = (size + alignment - 1) / alignment * alignment;
  const size_t inner = (padded + page - 1) / page * page;
  void* map = mmap(nullptr, inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) return nullptr;
  char* first = static_cast<char*>(map) + page;
  mprotect(first, inner, PROT_READ | PROT_WRITE);
  char* start = first + inner - padded;
  memset(start, kPoison, size);
  memset(start + size, kCanary, padded - size);
  blocks[start] = Block{size, device, mapped, static_cast<char*>(map), inner + 2 * page};
  return start;
}

CUresult unmap_block(char* start, bool device) {
  drain_all();
  const auto found = blocks.find(start);
  if (found == blocks.end() || found->second.device != device) return CUDA_ERROR_INVALID_VALUE;
  const Block block = found->second;
  for (char* at = start + block.size; at < block.map + block.map_size - 4096; ++at)
    if (*at != kCanary) {
      ++counts["overrun"];
      break;
    }
  munmap(block.map, block.map_size);
  blocks.erase(found);
  return CUDA_SUCCESS;
}

enum Direction { kUpload, kDownload, kOnDevice };

CUresult copy(void* to, const void* from, size_t size, Direction direction, CUstream stream,
              bool asynchronous) {
  const Block *target = holder(to, size), *source = holder(from, size);
  const bool to_device = direction != kDownload, from_device = direction != kUpload;
  if (to_device && !(target && target->device)) return CUDA_ERROR_INVALID_VALUE;
  if (from_device && !(source && source->device)) return CUDA_ERROR_INVALID_VALUE;
  const char* bytes = direction == kUpload ? "bytes up" : direction == kDownload ? "bytes down"
                                                                                 : "bytes across";
  const Block* host = direction == kUpload ? source : direction == kDownload ? target : nullptr;
  if (asynchronous && direction != kOnDevice && !host) {
    ++counts["pageable copies"];  // the driver makes them wait: they are no asynchronous copies
    asynchronous = false;
  }
  if (!asynchronous) {
    if (Stream* captured = capturing(true)) {
      captured->spoiled = true;
      return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    drain_all();
    if (lost != CUDA_SUCCESS) return lost;
    counts[bytes] += size;
    memcpy(to, from, size);
    return CUDA_SUCCESS;
  }
  return enqueue(stream, [=] {
    counts[bytes] += size;
    memcpy(to, from, size);
  });
}

// Loads a shared library from memory; how long it is, its header says.
CUresult load(CUmodule* module, const void* image) {
  const auto* header = static_cast<const Elf64_Ehdr*>(image);
  if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return CUDA_ERROR_INVALID_IMAGE;
  if (header->e_type != ET_DYN) return CUDA_ERROR_NO_BINARY_FOR_GPU;
  const size_t size = header->e_shoff + size_t(header->e_shentsize) * header->e_shnum;
  const int file = memfd_create("module", 0);
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  const bool written = write(file, image, size) == static_cast<ssize_t>(size);
  void* library = written ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
  if (!library) {
    close(file);
    return CUDA_ERROR_INVALID_IMAGE;
  }
  *module = reinterpret_cast<CUmodule>(new Module{library, file, {}});
  return CUDA_SUCCESS;
}

void wait_for(Event& event) {
  if (event.stream)
    while (!event.done && !event.stream->queue.empty()) {
      Work work = std::move(event.stream->queue.front());
      event.stream->queue.pop_front();
      if (lost == CUDA_SUCCESS) work();
    }
}

CUresult record(CUevent handle, CUstream where) {
  auto* event = reinterpret_cast<Event*>(handle);
  event->recorded = true;
  event->stream = legacy(where) ? &null_stream : reinterpret_cast<Stream*>(where);
  event->done = false;
  return enqueue(where, [event] {
    event->done = true;
    event->time = Clock::now();
  });
}

void destroy_primary() {
  drain_all();
  while (!blocks.empty()) unmap_block(blocks.begin()->first, blocks.begin()->second.device);
}

}  // namespace
