#include "binding/job_runner.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <unordered_set>

#include "binding/to_js.h"

namespace polypaca {
namespace {

using Call = std::function<void(Napi::Env)>;

/// Runs on the JS thread, once for every notify() and once at the end of a job. env is null while the environment closes.
void call_js(napi_env env, napi_value, void*, void* data) {
  std::unique_ptr<Call> call(static_cast<Call*>(data));
  if (!env) return;
  try {
    (*call)(Napi::Env(env));
  } catch (const Napi::Error&) {
    // A worker that is being terminated may run no JavaScript any more: there is nobody to tell. (What a listener throws is
    // no different: an exception must not leave this callback.)
  }
}

class QueuedJob final : public Job {
 public:
  QueuedJob(Napi::Env env, std::shared_ptr<StopFlag> stop, JobRunner::Work work)
      : env_(env), deferred_(Napi::Promise::Deferred::New(env)), stop_(std::move(stop)), work_(std::move(work)) {
    Napi::Value name = Napi::String::New(env, "polypaca");
    napi_status status = napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, nullptr, call_js, &channel_);
    if (status != napi_ok) throw Error(ErrorCode::internal, "no channel back to the JavaScript thread");
  }

  const StopFlag& stop() const override { return *stop_; }
  void notify(Call call) override {
    auto* owned = new Call(std::move(call));
    if (napi_call_threadsafe_function(channel_, owned, napi_tsfn_nonblocking) != napi_ok) delete owned;
  }
  Napi::Promise promise() const { return deferred_.Promise(); }
  napi_env env() const { return env_; }
  void request_stop() { stop_->store(true); }

  void run() {
    JobRunner::Resolve resolve;
    JobRunner::Work not_run;  // a job that never ran may hold JavaScript references: they are let go on the JS thread
    std::exception_ptr failure;
    if (stop_->load()) {
      failure = std::make_exception_ptr(Error(ErrorCode::cancelled, "stopped before it began"));
      not_run = std::move(work_);
    } else {
      try {
        resolve = work_(*this);
      } catch (...) {
        failure = std::current_exception();
      }
    }
    work_ = nullptr;  // what the job held on to (models) is let go on this thread
    auto deferred = std::make_shared<Napi::Promise::Deferred>(deferred_);
    notify([deferred, resolve = std::move(resolve), not_run = std::move(not_run), failure](Napi::Env env) {
      Napi::HandleScope scope(env);
      try {
        if (failure) std::rethrow_exception(failure);
        deferred->Resolve(resolve(env));
      } catch (...) {
        deferred->Reject(error_to_js(env, std::current_exception()));
      }
    });
    napi_release_threadsafe_function(channel_, napi_tsfn_release);
  }

 private:
  napi_env env_;
  Napi::Promise::Deferred deferred_;
  std::shared_ptr<StopFlag> stop_;
  JobRunner::Work work_;
  napi_threadsafe_function channel_ = nullptr;
};

}  // namespace

struct JobRunner::Impl {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::pair<std::shared_ptr<QueuedJob>, std::function<void()>>> queue;
  std::unordered_map<napi_env, std::unordered_set<std::shared_ptr<QueuedJob>>> active;  // queued or running, by environment

  void loop() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      changed.wait(lock, [&] { return !queue.empty(); });
      auto [job, work] = std::move(queue.front());
      queue.pop_front();
      lock.unlock();
      job ? job->run() : work();
      work = nullptr;
      lock.lock();
      if (job) active[job->env()].erase(job);
      job.reset();
      changed.notify_all();
    }
  }
};

JobRunner& JobRunner::instance() {
  static JobRunner* runner = new JobRunner();  // never destroyed: the compute thread may outlive static destructors
  return *runner;
}

JobRunner::JobRunner() : impl_(new Impl()) { std::thread([impl = impl_] { impl->loop(); }).detach(); }

Napi::Promise JobRunner::submit(Napi::Env env, std::shared_ptr<StopFlag> stop, Work work) {
  auto job = std::make_shared<QueuedJob>(env, std::move(stop), std::move(work));
  Napi::Promise promise = job->promise();
  {
    std::lock_guard<std::mutex> lock(impl_->mutex);
    impl_->active[env].insert(job);
    impl_->queue.emplace_back(std::move(job), nullptr);
  }
  impl_->changed.notify_all();
  return promise;
}

void JobRunner::post(std::function<void()> work) {
  {
    std::lock_guard<std::mutex> lock(impl_->mutex);
    impl_->queue.emplace_back(nullptr, std::move(work));
  }
  impl_->changed.notify_all();
}

void JobRunner::attach(Napi::Env env) {
  napi_add_env_cleanup_hook(
      env,
      [](void* data) {
        Impl& impl = *instance().impl_;
        std::unique_lock<std::mutex> lock(impl.mutex);
        auto key = static_cast<napi_env>(data);
        for (const auto& job : impl.active[key]) job->request_stop();
        impl.changed.wait(lock, [&] { return impl.active[key].empty(); });
        impl.active.erase(key);
      },
      static_cast<napi_env>(env));
}

}  // namespace polypaca
