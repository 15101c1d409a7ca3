// One compute thread per process serves all models and trainers (OpenMP keeps one team per thread that starts parallel
// regions, and CUDA contexts like one thread too). Jobs queue on it; their promises settle on the thread they came from.
#pragma once
#include <napi.h>

#include <functional>
#include <memory>

#include "core/error.h"
#include "model/decoder.h"

namespace polypaca {

/// Where a job's result, error or progress goes. Opaque; see job_runner.cpp.
class Job;

class JobRunner {
 public:
  static JobRunner& instance();

  /// Queues `work`; the promise resolves with what the function it returns makes of its result (on the JS thread), or rejects.
  /// `work` runs on the compute thread and may throw anything.
  using Resolve = std::function<Napi::Value(Napi::Env)>;
  using Work = std::function<Resolve(Job&)>;
  Napi::Promise submit(Napi::Env env, std::shared_ptr<StopFlag> stop, Work work);

  /// Runs `work` on the compute thread, and tells nobody: for freeing things.
  void post(std::function<void()> work);

  /// Installs the hook that stops and waits for this environment's jobs when it goes away.
  static void attach(Napi::Env env);

 private:
  JobRunner();
  struct Impl;
  Impl* impl_;  // lives as long as the process: the thread is joined by no static destructor
};

class Job {
 public:
  virtual ~Job() = default;
  virtual const StopFlag& stop() const = 0;
  /// Queues a call on the JS thread (progress). Never blocks; dropped while the environment closes.
  virtual void notify(std::function<void(Napi::Env)> call) = 0;
};

}  // namespace polypaca
