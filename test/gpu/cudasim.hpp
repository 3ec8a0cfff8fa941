// The simulated driver's model: streams, memory, modules, and the rules of capture. See cudasim.cpp.
#pragma once

#include <cuda.h>
#include <dlfcn.h>
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
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

// What runs at the same time as what: copies up, copies down, kernels; and the host.
enum Engine { kNoEngine, kUp, kDown, kCompute, kEngines };

struct Stream;
struct Context;

struct Mark {  // one record of an event
  bool done = false;
  double us = 0;  // when it is passed
};
using MarkPointer = std::shared_ptr<Mark>;

struct Work {
  std::function<void()> run;
  Engine engine = kNoEngine;
  double us = 0;                    // what it takes
  std::string kind;
  std::vector<std::pair<const void*, size_t>> uses;
  MarkPointer wait, mark;           // it begins after the one, and passes the other
};

using Node = std::function<void(Stream&)>;  // puts a node's work into a stream, at each launch
using Graph = std::vector<Node>;

struct Stream {
  Context* context = nullptr;
  bool blocking = true;             // towards the legacy stream
  double us = 0;                    // when its last work ends
  std::deque<Work> queue;
  std::unique_ptr<Graph> capture;   // set while this stream is being captured
  std::thread::id capturer;
  bool spoiled = false;             // the capture met a call that may not be captured
};

struct Event {
  Context* context = nullptr;
  bool timed = true;
  bool in_graph = false;            // its last record is a mark inside a graph alone
  MarkPointer mark;
};

struct Executable {
  Context* context;
  Graph graph;
};

struct Context {                    // the primary one of a device
  int retained = 0;
};

struct Interval {
  std::string kind;
  double begin, end;
};

struct Block {  // device or page-locked memory
  Context* context;
  size_t size;
  bool device, mapped;
  char* map;
  size_t map_size;
};

struct Function {
  Context* context;
  void* library;
  std::string name;
  void (*run)(const unsigned* grid_and_block, void** arguments, char* buffer);
};

struct Module {
  Context* context;
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
Context contexts[2];                // of the devices; their addresses are the handles
int graphs = 0;                     // instantiated ones
thread_local std::vector<void*> stack;
Stream null_stream;
std::set<Stream*> streams;
std::map<char*, Block> blocks;
double host_us = 0;                 // where the host is
double free_us[kEngines] = {};      // when each engine has done what it was given
std::vector<Interval> intervals;    // what was done when
std::map<std::string, double> kernel_us;
std::map<std::string, long> counts;
std::map<std::string, Failure> failures;
CUresult lost = CUDA_SUCCESS;

const char kPoison = '\xff';
const char kCanary = '\x5a';
const double kCallUs = 2, kKernelUs = 10;

double bytes_per_us() {
  static const char* wanted = getenv("CUDASIM_BYTES_PER_US");
  static const double found = wanted ? atof(wanted) : 12000;
  return found;
}

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

int devices() {
  const char* wanted = getenv("CUDASIM_DEVICES");
  return wanted && *wanted == '2' ? 2 : 1;
}

Context* current() { return stack.empty() ? nullptr : static_cast<Context*>(stack.back()); }

bool ready(const Stream& stream) {
  return !stream.queue.empty() && !(stream.queue.front().wait && !stream.queue.front().wait->done);
}

void run_first(Stream& stream) {
  Work work = std::move(stream.queue.front());
  stream.queue.pop_front();
  if (lost == CUDA_SUCCESS && work.run) work.run();
  if (work.mark) work.mark->done = true;
}

// Runs a piece of each stream in turn, as a GPU may: what two streams do is in no order but that
// which events give it. Ends when so is true.
template <class Condition> void run_until(Condition so) {
  while (!so()) {
    bool moved = false;
    for (Stream* stream : std::set<Stream*>(streams)) {
      if (!so() && ready(*stream)) {
        run_first(*stream);
        moved = true;
      }
    }
    if (!moved) {
      fprintf(stderr, "cudasim: the streams wait for one another\n");
      abort();
    }
  }
}

void drain(Stream& stream) {
  run_until([&] { return stream.queue.empty(); });
  host_us = std::max(host_us, stream.us);
}

// All streams, or those that the legacy stream waits for.
void drain_all(bool blocking_alone = false) {
  for (Stream* stream : std::set<Stream*>(streams))
    if (stream->blocking || !blocking_alone) drain(*stream);
}

Stream* capturing() {  // in this thread
  for (Stream* stream : streams)
    if (stream->capture && stream->capturer == std::this_thread::get_id()) return stream;
  return nullptr;
}

// The legacy stream would wait for all blocking streams: while one is captured, by whatever
// thread, it can't be used, and that capture is spoiled.
CUresult legacy_refusal() {
  for (Stream* stream : streams)
    if (stream->capture && stream->blocking && stream->context == current()) {
      stream->spoiled = true;
      return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
  return CUDA_SUCCESS;
}

enum { kInit = 1, kContext = 2, kNotInCapture = 4 };

// What every call begins with: count it, fail it if wanted, check the rules.
CUresult enter(const char* name, int needs) {
  if (CUresult failure = occurrence(name)) return failure;
  if ((needs & (kInit | kContext)) && !initialised) return CUDA_ERROR_NOT_INITIALIZED;
  host_us += kCallUs;
  if ((needs & kContext) && !(current() && current()->retained))
    return CUDA_ERROR_INVALID_CONTEXT;
  if ((needs & kContext) && lost != CUDA_SUCCESS) return lost;
  if (needs & kNotInCapture) {
    if (Stream* stream = capturing()) {
      stream->spoiled = true;
      return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
  }
  return CUDA_SUCCESS;
}

// Puts work into a stream, and finds when it will be done: each engine does what it is given in
// the order in which it is given.
void put(Stream& stream, Work work) {
  double begin = std::max(stream.us, host_us);
  if (work.wait) begin = std::max(begin, work.wait->us);
  if (work.engine != kNoEngine) begin = std::max(begin, free_us[work.engine]);
  stream.us = begin + work.us;
  if (work.engine != kNoEngine) {
    free_us[work.engine] = stream.us;
    intervals.push_back({work.kind, begin, stream.us});
  }
  if (work.mark) work.mark->us = stream.us;
  stream.queue.push_back(std::move(work));
}

CUresult enqueue(CUstream handle, Work work) {
  if (legacy(handle)) {  // waits for all blocking streams, and is waited for
    if (CUresult refusal = legacy_refusal()) return refusal;
    drain_all(true);
    if (work.run) work.run();
    return lost;
  }
  Stream& stream = *reinterpret_cast<Stream*>(handle);
  if (stream.context != current()) return CUDA_ERROR_INVALID_HANDLE;
  if (stream.capture)
    stream.capture->push_back([work](Stream& target) { put(target, work); });
  else
    put(stream, std::move(work));
  return CUDA_SUCCESS;
}

// Whether something that has not run yet reads or writes a block.
bool in_use(const char* start, size_t size) {
  for (Stream* stream : streams)
    for (const Work& work : stream->queue)
      for (const auto& [at, bytes] : work.uses) {
        const char* used = static_cast<const char*>(at);
        if (used < start + size && start < used + bytes) return true;
      }
  return false;
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
  blocks[start] = Block{current(), size, device, mapped, static_cast<char*>(map), inner + 2 * page};
  return start;
}

CUresult unmap_block(char* start, bool device) {
  const auto found = blocks.find(start);
  if (found == blocks.end() || found->second.device != device) return CUDA_ERROR_INVALID_VALUE;
  if (in_use(start, found->second.size)) ++counts["freed in use"];
  drain_all();
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
    if (Stream* captured = capturing()) {
      captured->spoiled = true;
      return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    if (CUresult refusal = legacy_refusal()) return refusal;
    drain_all(true);
    if (lost != CUDA_SUCCESS) return lost;
    counts[bytes] += size;
    memcpy(to, from, size);
    return CUDA_SUCCESS;
  }
  Work work;
  work.run = [=] {
    counts[bytes] += size;
    memcpy(to, from, size);
  };
  work.engine = direction == kUpload ? kUp : direction == kDownload ? kDown : kCompute;
  work.kind = bytes;
  work.us = size / bytes_per_us();
  work.uses = {{to, size}, {from, size}};
  return enqueue(stream, std::move(work));
}

// Loads a shared library from memory; how long it is, its header says.
CUresult load(CUmodule* module, const void* image) {
  const auto* header = static_cast<const Elf64_Ehdr*>(image);
  if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return CUDA_ERROR_INVALID_IMAGE;
  if (header->e_type != ET_DYN) return CUDA_ERROR_NO_BINARY_FOR_GPU;
  const size_t size = header->e_shoff + size_t(header->e_shentsize) * header->e_shnum;
  // A name of its own each time: by the name of one that was never unloaded, that would come back.
  char path[] = "/tmp/cudasim_module_XXXXXX";
  const int file = mkstemp(path);
  const bool written = write(file, image, size) == static_cast<ssize_t>(size);
  void* library = written ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
  unlink(path);
  if (!library) {
    close(file);
    return CUDA_ERROR_INVALID_IMAGE;
  }
  *module = reinterpret_cast<CUmodule>(new Module{current(), library, file, {}});
  return CUDA_SUCCESS;
}

void wait_for(const Mark& mark) {
  run_until([&] { return mark.done; });
  host_us = std::max(host_us, mark.us);
}

// Records an event: in a stream, or at each launch of the graph that the stream is captured to.
CUresult record(CUevent handle, CUstream where) {
  auto* event = reinterpret_cast<Event*>(handle);
  event->in_graph = false;
  if (legacy(where)) {
    if (CUresult refusal = legacy_refusal()) return refusal;
    drain_all(true);
    event->mark = std::make_shared<Mark>();
    event->mark->done = true;
    event->mark->us = host_us;
    return lost;
  }
  Stream& stream = *reinterpret_cast<Stream*>(where);
  if (stream.context != event->context) return CUDA_ERROR_INVALID_HANDLE;
  const Node node = [event](Stream& target) {
    Work work;
    work.mark = event->mark = std::make_shared<Mark>();
    put(target, std::move(work));
  };
  if (stream.capture)
    stream.capture->push_back(node);
  else
    node(stream);
  return CUDA_SUCCESS;
}

CUresult hold(CUstream where, CUevent handle, unsigned flags) {
  auto* event = reinterpret_cast<Event*>(handle);
  if (legacy(where)) return CUDA_ERROR_NOT_SUPPORTED;
  Stream& stream = *reinterpret_cast<Stream*>(where);
  const bool external = flags == CU_EVENT_WAIT_EXTERNAL;
  if (external && !stream.capture) return CUDA_ERROR_INVALID_VALUE;
  if (event->in_graph && !stream.capture) return CUDA_ERROR_CAPTURED_EVENT;
  if (stream.capture && !external) {  // work outside of the capture
    stream.spoiled = true;
    return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
  }
  const Node node = [event](Stream& target) {
    if (!event->mark) return;  // never recorded: passed
    Work work;
    work.wait = event->mark;
    put(target, std::move(work));
  };
  if (stream.capture)
    stream.capture->push_back(node);
  else
    node(stream);
  return CUDA_SUCCESS;
}

// Runs a kernel; what it fetches from mapped memory, which is not cached, is counted.
void run_kernel(const Function& function, const unsigned* shape, char* arguments) {
  using Uncached = void (*)(const void*, size_t);
  using Sectors = size_t (*)();
  const auto uncached = reinterpret_cast<Uncached>(dlsym(function.library, "cpusim_uncached"));
  if (uncached)
    for (const auto& [start, block] : blocks)
      if (block.mapped) uncached(start, block.size);
  function.run(shape, nullptr, arguments);
  if (uncached)
    if (const size_t n = reinterpret_cast<Sectors>(dlsym(function.library, "cpusim_sectors"))())
      counts["uncached sectors"] += n;
}

void destroy(Context& context) {
  drain_all();
  std::vector<std::pair<char*, bool>> mine;
  for (const auto& [start, block] : blocks)
    if (block.context == &context) mine.emplace_back(start, block.device);
  for (const auto& [start, device] : mine) unmap_block(start, device);
}

}  // namespace
