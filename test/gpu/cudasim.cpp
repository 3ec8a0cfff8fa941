// A libcuda.so.1 for tests: real PyCUDA runs on it, unmodified, on a machine without a GPU.
//
// It models what a program can get wrong, not how fast a GPU is:
// - Streams are lazy. Asynchronous work runs only when something waits for it, so a forgotten
//   synchronise leaves stale data behind, every time.
// - Streams are in no order but that of events: what runs in them takes turns. The legacy stream
//   waits for blocking streams alone, and can't be used while one of them is captured.
// - Contexts are current per thread; a call without one fails as it does in the driver, and so
//   does one with another device's streams, events or kernels.
// - Memory lies between guard pages and is filled with 0xFF (NaN in every float format): a stray
//   access, or one after the free, ends the process; copies are checked for bounds and kind.
// - What kernels fetch from mapped memory, which a GPU does not cache, is counted in sectors of 32
//   bytes, each access of a warp by itself.
// - While a thread captures a stream, calls that may not be captured fail and spoil the capture.
// - Any call can be made to fail at any occurrence (cudasim_fail), for good if wanted.
// A module's image is a shared library: kernels built by g++ with a C entry NAME__cpu each. Names of
// functions that have versions are those that cuda.h makes of them, the same as PyCUDA's.
//
// Time is simulated, too: copies up, copies down and kernels take what their bytes or
// cudasim_cost say, side by side where streams allow it; the host takes 2 us for each call, what
// cudasim_spend adds, and the time that it waits.
//
// Environment: CUDASIM_DEVICES=2, CUDASIM_BYTES_PER_US=12000, CUDASIM_INTEGRATED=1 (memory shared with the host), CUDASIM_NO_DEVICE=1.

#include "cudasim.hpp"

#define API extern "C" __attribute__((visibility("default"))) CUresult
#define CONTROL extern "C" __attribute__((visibility("default")))
#define BEGIN(needs)                                       \
  std::lock_guard<std::recursive_mutex> lock(mutex);       \
  if (CUresult refusal = enter(__func__, needs)) return refusal;

// Control, for tests (through ctypes).

// Makes the first..last-th next call of a function (or "kernel NAME": its run on the device) fail.
CONTROL void cudasim_fail(const char* name, int first, int last, int code, int for_good) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  const long before = counts[name];
  failures[name] = Failure{int(before + first), int(before + last), CUresult(code), for_good != 0};
}

// Forgets counts and failures, and finds the lost device again.
CONTROL void cudasim_reset() {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  counts.clear();
  failures.clear();
  intervals.clear();
  lost = CUDA_SUCCESS;
}

// Says what each run of a kernel takes.
CONTROL void cudasim_cost(const char* kernel, double us) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  kernel_us[kernel] = us;
}

// Lets the host be at something for a while.
CONTROL void cudasim_spend(const char* kind, double us) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  intervals.push_back({kind, host_us, host_us + us});
  host_us += us;
}

// Writes "kind<TAB>begin<TAB>end" lines (us) of what was done since the reset, like cudasim_report.
CONTROL size_t cudasim_intervals(char* text, size_t size) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  std::string lines;
  for (const Interval& one : intervals)
    lines += one.kind + "\t" + std::to_string(one.begin) + "\t" + std::to_string(one.end) + "\n";
  if (text && size > lines.size()) memcpy(text, lines.c_str(), lines.size() + 1);
  return lines.size() + 1;
}

// Writes "name<TAB>count" lines, and the current state likewise; returns the bytes needed.
CONTROL size_t cudasim_report(char* text, size_t size) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  long device = 0, pinned = 0;
  for (const auto& [start, block] : blocks) ++(block.device ? device : pinned);
  std::map<std::string, long> all = counts;
  all["live device blocks"] = device;
  all["live pinned blocks"] = pinned;
  all["live streams"] = streams.size();
  all["live graphs"] = graphs;
  all["contexts pushed here"] = stack.size();
  all["primary retained"] = contexts[0].retained + contexts[1].retained;
  std::string lines;
  for (const auto& [name, count] : all) lines += name + "\t" + std::to_string(count) + "\n";
  if (text && size > lines.size()) memcpy(text, lines.c_str(), lines.size() + 1);
  return lines.size() + 1;
}

// Device

API cuInit(unsigned) {
  BEGIN(0)
  if (getenv("CUDASIM_NO_DEVICE")) return CUDA_ERROR_NO_DEVICE;
  initialised = true;
  return CUDA_SUCCESS;
}
API cuDriverGetVersion(int* version) { BEGIN(0) *version = 13000; return CUDA_SUCCESS; }
API cuGetErrorString(CUresult code, const char** text) {
  static thread_local char words[48];
  snprintf(words, sizeof words, "simulated error %d", int(code));
  *text = words;
  return CUDA_SUCCESS;
}
API cuGetErrorName(CUresult code, const char** text) { return cuGetErrorString(code, text); }
API cuDeviceGetCount(int* count) { BEGIN(kInit) *count = devices(); return CUDA_SUCCESS; }
API cuDeviceGet(CUdevice* device, int number) {
  BEGIN(kInit)
  if (number < 0 || number >= devices()) return CUDA_ERROR_INVALID_DEVICE;
  *device = number;
  return CUDA_SUCCESS;
}
API cuDeviceGetName(char* name, int size, CUdevice device) {
  BEGIN(kInit)
  snprintf(name, size, device ? "second simulated GPU" : "simulated GPU");
  return CUDA_SUCCESS;
}
API cuDeviceComputeCapability(int* major, int* minor, CUdevice) {
  BEGIN(kInit)
  *major = 8;
  *minor = 7;
  return CUDA_SUCCESS;
}
API cuDeviceTotalMem(size_t* size, CUdevice) {
  BEGIN(kInit) *size = size_t(1) << 32; return CUDA_SUCCESS;
}
API cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
  BEGIN(kInit)
  const char* integrated = getenv("CUDASIM_INTEGRATED");
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = 8; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = 7; break;
    case CU_DEVICE_ATTRIBUTE_INTEGRATED: *value = integrated && *integrated == '1'; break;
    case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY: *value = 1; break;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = 1024; break;
    default: *value = 0;
  }
  return CUDA_SUCCESS;
}

// Contexts

API cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  BEGIN(kInit)
  ++contexts[device].retained;
  *context = reinterpret_cast<CUcontext>(&contexts[device]);
  return CUDA_SUCCESS;
}
API cuDevicePrimaryCtxRelease(CUdevice device) {
  BEGIN(kInit)
  if (!contexts[device].retained) return CUDA_ERROR_INVALID_CONTEXT;
  if (!--contexts[device].retained) destroy(contexts[device]);
  return CUDA_SUCCESS;
}
API cuCtxPushCurrent(CUcontext context) {
  BEGIN(kInit)
  if (!context) return CUDA_ERROR_INVALID_CONTEXT;
  stack.push_back(context);
  return CUDA_SUCCESS;
}
API cuCtxPopCurrent(CUcontext* context) {
  BEGIN(kInit)
  if (stack.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  if (context) *context = static_cast<CUcontext>(stack.back());
  stack.pop_back();
  return CUDA_SUCCESS;
}
API cuCtxGetCurrent(CUcontext* context) {
  BEGIN(kInit)
  *context = stack.empty() ? nullptr : static_cast<CUcontext>(stack.back());
  return CUDA_SUCCESS;
}
API cuCtxGetDevice(CUdevice* device) {
  BEGIN(kContext)
  *device = int(current() - contexts);
  return CUDA_SUCCESS;
}
API cuCtxGetApiVersion(CUcontext, unsigned* version) {
  BEGIN(kContext) *version = 13000; return CUDA_SUCCESS;
}
API cuCtxSynchronize() { BEGIN(kContext | kNotInCapture) drain_all(); return lost; }

// Memory

API cuMemGetInfo(size_t* available, size_t* total) {
  BEGIN(kContext)
  *available = *total = size_t(1) << 32;
  for (const auto& [start, block] : blocks) *available -= block.device ? block.size : 0;
  return CUDA_SUCCESS;
}
API cuMemAlloc(CUdeviceptr* address, size_t size) {
  BEGIN(kContext | kNotInCapture)
  if (!size) return CUDA_ERROR_INVALID_VALUE;
  *address = reinterpret_cast<CUdeviceptr>(map_block(size, true, false));
  return *address ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
API cuMemFree(CUdeviceptr address) {
  BEGIN(kContext | kNotInCapture) return unmap_block(reinterpret_cast<char*>(address), true);
}
API cuMemHostAlloc(void** address, size_t size, unsigned flags) {
  BEGIN(kContext | kNotInCapture)
  if (!size) return CUDA_ERROR_INVALID_VALUE;
  *address = map_block(size, false, flags & CU_MEMHOSTALLOC_DEVICEMAP);
  return *address ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
API cuMemFreeHost(void* address) {
  BEGIN(kContext | kNotInCapture) return unmap_block(static_cast<char*>(address), false);
}
API cuMemHostGetDevicePointer(CUdeviceptr* device, void* address, unsigned) {
  BEGIN(kContext)
  const Block* block = holder(address, 1);
  if (!block || !block->mapped) return CUDA_ERROR_INVALID_VALUE;
  *device = reinterpret_cast<CUdeviceptr>(address);
  return CUDA_SUCCESS;
}
API cuMemHostGetFlags(unsigned* flags, void* address) {
  BEGIN(kContext)
  const Block* block = holder(address, 1);
  if (!block) return CUDA_ERROR_INVALID_VALUE;
  *flags = block->mapped ? CU_MEMHOSTALLOC_DEVICEMAP : 0;
  return CUDA_SUCCESS;
}
API cuMemcpyHtoD(CUdeviceptr to, const void* from, size_t size) {
  BEGIN(kContext) return copy(reinterpret_cast<void*>(to), from, size, kUpload, nullptr, false);
}
API cuMemcpyDtoH(void* to, CUdeviceptr from, size_t size) {
  BEGIN(kContext) return copy(to, reinterpret_cast<void*>(from), size, kDownload, nullptr, false);
}
API cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t size, CUstream stream) {
  BEGIN(kContext) return copy(reinterpret_cast<void*>(to), from, size, kUpload, stream, true);
}
API cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t size, CUstream stream) {
  BEGIN(kContext) return copy(to, reinterpret_cast<void*>(from), size, kDownload, stream, true);
}
API cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream) {
  BEGIN(kContext)
  return copy(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), size, kOnDevice, stream,
              true);
}
API cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t size, CUstream stream) {
  BEGIN(kContext)
  void* target = reinterpret_cast<void*>(to);
  const Block* block = holder(target, size);
  if (!block || !(block->device || block->mapped)) return CUDA_ERROR_INVALID_VALUE;
  Work work;
  work.run = [=] { memset(target, value, size); };
  work.uses = {{target, size}};
  return enqueue(stream, std::move(work));
}

// Streams and events

API cuStreamCreate(CUstream* handle, unsigned flags) {
  BEGIN(kContext)
  auto* stream = new Stream;
  stream->context = current();
  stream->blocking = !(flags & CU_STREAM_NON_BLOCKING);
  streams.insert(stream);
  *handle = reinterpret_cast<CUstream>(stream);
  return CUDA_SUCCESS;
}
API cuStreamDestroy(CUstream handle) {
  BEGIN(kContext)
  auto* stream = reinterpret_cast<Stream*>(handle);
  drain(*stream);
  streams.erase(stream);
  delete stream;
  return CUDA_SUCCESS;
}
API cuStreamSynchronize(CUstream handle) {
  BEGIN(kContext | kNotInCapture)
  legacy(handle) ? drain_all(true) : drain(*reinterpret_cast<Stream*>(handle));
  return lost;
}
API cuStreamQuery(CUstream handle) {  // not ready the first time, so that nobody relies on it
  BEGIN(kContext | kNotInCapture)
  if (legacy(handle)) return lost;
  Stream& stream = *reinterpret_cast<Stream*>(handle);
  const bool idle = stream.queue.empty();
  drain(stream);
  return idle ? lost : CUDA_ERROR_NOT_READY;
}
API cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) {
  BEGIN(kContext)
  return hold(stream, event, flags);
}
API cuEventCreate(CUevent* event, unsigned flags) {
  BEGIN(kContext)
  auto* made = new Event;
  made->context = current();
  made->timed = !(flags & CU_EVENT_DISABLE_TIMING);
  *event = reinterpret_cast<CUevent>(made);
  return CUDA_SUCCESS;
}
API cuEventDestroy(CUevent event) {
  BEGIN(kContext)
  drain_all();
  delete reinterpret_cast<Event*>(event);
  return CUDA_SUCCESS;
}
API cuEventRecord(CUevent handle, CUstream where) {
  BEGIN(kContext)
  if (!legacy(where) && reinterpret_cast<Stream*>(where)->capture) {
    reinterpret_cast<Event*>(handle)->in_graph = true;  // a mark inside the graph alone
    return CUDA_SUCCESS;
  }
  return record(handle, where);
}
API cuEventRecordWithFlags(CUevent handle, CUstream where, unsigned flags) {
  BEGIN(kContext)
  const bool captured = !legacy(where) && reinterpret_cast<Stream*>(where)->capture;
  if (flags != CU_EVENT_RECORD_EXTERNAL) return cuEventRecord(handle, where);
  return captured ? record(handle, where) : CUDA_ERROR_INVALID_VALUE;
}
API cuEventSynchronize(CUevent handle) {
  BEGIN(kContext | kNotInCapture)
  auto* event = reinterpret_cast<Event*>(handle);
  if (event->in_graph) return CUDA_ERROR_CAPTURED_EVENT;
  if (event->mark) wait_for(*event->mark);
  return lost;
}
API cuEventQuery(CUevent handle) {
  BEGIN(kContext | kNotInCapture)
  auto* event = reinterpret_cast<Event*>(handle);
  if (event->in_graph) return CUDA_ERROR_CAPTURED_EVENT;
  const bool passed = !event->mark || event->mark->done;
  if (event->mark) wait_for(*event->mark);
  return passed ? lost : CUDA_ERROR_NOT_READY;
}
API cuEventElapsedTime(float* ms, CUevent from, CUevent to) {
  BEGIN(kContext)
  const auto *a = reinterpret_cast<Event*>(from), *b = reinterpret_cast<Event*>(to);
  for (const Event* one : {a, b})
    if (!one->timed || one->in_graph || !one->mark) return CUDA_ERROR_INVALID_HANDLE;
  if (!a->mark->done || !b->mark->done) return CUDA_ERROR_NOT_READY;
  *ms = float((b->mark->us - a->mark->us) / 1e3);
  return CUDA_SUCCESS;
}

// Modules and launches

API cuModuleLoadData(CUmodule* module, const void* image) {
  BEGIN(kContext | kNotInCapture) return load(module, image);
}
API cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned count, CUjit_option* options,
                       void** values) {
  for (unsigned n = 0; n < count; ++n)  // PyCUDA builds a message from it whatever the outcome
    if (options[n] == CU_JIT_ERROR_LOG_BUFFER) static_cast<char*>(values[n])[0] = '\0';
  BEGIN(kContext | kNotInCapture) return load(module, image);
}
API cuModuleUnload(CUmodule handle) {
  BEGIN(kContext | kNotInCapture)
  drain_all();
  auto* module = reinterpret_cast<Module*>(handle);
  dlclose(module->library);
  close(module->file);
  delete module;
  return CUDA_SUCCESS;
}
API cuModuleGetFunction(CUfunction* function, CUmodule handle, const char* name) {
  BEGIN(kContext)
  auto* module = reinterpret_cast<Module*>(handle);
  void* entry = dlsym(module->library, (std::string(name) + "__cpu").c_str());
  if (!entry) return CUDA_ERROR_NOT_FOUND;
  Function& found = module->functions[name];
  found = Function{module->context, module->library, name, reinterpret_cast<decltype(Function::run)>(entry)};
  *function = reinterpret_cast<CUfunction>(&found);
  return CUDA_SUCCESS;
}
API cuFuncGetAttribute(int* value, CUfunction_attribute, CUfunction) {
  BEGIN(kContext) *value = 0; return CUDA_SUCCESS;
}
API cuFuncSetAttribute(CUfunction, CUfunction_attribute, int) {
  BEGIN(kContext) return CUDA_SUCCESS;
}
API cuFuncSetBlockShape(CUfunction, int, int, int) { BEGIN(kContext) return CUDA_SUCCESS; }
API cuFuncSetSharedSize(CUfunction, unsigned) { BEGIN(kContext) return CUDA_SUCCESS; }
API cuFuncSetCacheConfig(CUfunction, CUfunc_cache) { BEGIN(kContext) return CUDA_SUCCESS; }
API cuLaunchKernel(CUfunction handle, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                   unsigned by, unsigned bz, unsigned, CUstream stream, void** parameters,
                   void** extra) {
  BEGIN(kContext)
  const bool grid_fits = gx && gy && gz && gy < 65536 && gz < 65536;
  if (!grid_fits || !bx || !by || !bz || size_t(bx) * by * bz > 1024)
    return CUDA_ERROR_INVALID_VALUE;
  if (parameters || !extra) return CUDA_ERROR_NOT_SUPPORTED;  // PyCUDA packs them into a buffer
  const char* buffer = nullptr;
  size_t size = 0;
  for (; *extra != CU_LAUNCH_PARAM_END; extra += 2) {
    if (extra[0] == CU_LAUNCH_PARAM_BUFFER_POINTER) buffer = static_cast<char*>(extra[1]);
    if (extra[0] == CU_LAUNCH_PARAM_BUFFER_SIZE) size = *static_cast<size_t*>(extra[1]);
  }
  std::vector<char> arguments(buffer, buffer + size);
  const Function function = *reinterpret_cast<Function*>(handle);
  if (function.context != current()) return CUDA_ERROR_INVALID_HANDLE;
  const std::vector<unsigned> shape{gx, gy, gz, bx, by, bz};
  Work work;
  work.run = [=]() mutable {
    if (CUresult fault = occurrence("kernel " + function.name))
      lost = fault;  // seen by whoever waits next, as with a real kernel
    else
      run_kernel(function, shape.data(), arguments.data());
  };
  work.engine = kCompute;
  work.kind = "kernel " + function.name;
  const auto cost = kernel_us.find(function.name);
  work.us = cost == kernel_us.end() ? kKernelUs : cost->second;
  return enqueue(stream, std::move(work));
}

// Graphs

API cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode) {
  BEGIN(kContext)
  if (legacy(handle)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  auto* stream = reinterpret_cast<Stream*>(handle);
  if (stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
  stream->capture = std::make_unique<Graph>();
  stream->capturer = std::this_thread::get_id();
  stream->spoiled = false;
  return CUDA_SUCCESS;
}
API cuStreamEndCapture(CUstream handle, CUgraph* graph) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  auto* stream = reinterpret_cast<Stream*>(handle);
  if (!stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
  const std::unique_ptr<Graph> captured = std::move(stream->capture);  // ended even if it fails
  *graph = nullptr;
  if (CUresult refusal = enter(__func__, kContext)) return refusal;
  if (stream->capturer != std::this_thread::get_id()) return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
  if (stream->spoiled) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  *graph = reinterpret_cast<CUgraph>(new Graph(*captured));
  return CUDA_SUCCESS;
}
API cuGraphInstantiateWithFlags(CUgraphExec* executable, CUgraph graph, unsigned long long) {
  BEGIN(kContext | kNotInCapture)
  *executable = reinterpret_cast<CUgraphExec>(
      new Executable{current(), *reinterpret_cast<Graph*>(graph)});
  ++graphs;
  return CUDA_SUCCESS;
}
API cuGraphLaunch(CUgraphExec executable, CUstream handle) {
  BEGIN(kContext)
  Stream& stream = *reinterpret_cast<Stream*>(handle);
  const auto* made = reinterpret_cast<Executable*>(executable);
  if (stream.context != current() || made->context != current()) return CUDA_ERROR_INVALID_HANDLE;
  if (stream.capture) return CUDA_ERROR_NOT_SUPPORTED;  // as a child graph, which nobody here needs
  for (const Node& node : made->graph) node(stream);
  return CUDA_SUCCESS;
}
API cuGraphDestroy(CUgraph graph) {
  BEGIN(0)
  delete reinterpret_cast<Graph*>(graph);
  return CUDA_SUCCESS;
}
API cuGraphExecDestroy(CUgraphExec executable) {
  BEGIN(kContext)
  drain_all();
  delete reinterpret_cast<Executable*>(executable);
  --graphs;
  return CUDA_SUCCESS;
}

// The program itself calls this one by its first name, whatever cuda.h makes of it for PyCUDA.
#ifdef cuEventElapsedTime
#undef cuEventElapsedTime
API cuEventElapsedTime(float* ms, CUevent from, CUevent to) {
  return cuEventElapsedTime_v2(ms, from, to);
}
#endif
