#include "train/quantized_moments.h"

namespace polypaca {

std::vector<QuantizedMoments::Moments> QuantizedMoments::lay_out(const std::vector<Parameter>& parameters, Arena& arena) {
  std::vector<Moments> list;
  for (const Parameter& p : parameters) {
    Moments moments;
    if (is_quantized(p)) {
      moments.m_codes = arena.take<uint8_t>(p.count);
      moments.v_codes = arena.take<uint8_t>(p.count);
    }
    const int64_t floats = is_quantized(p) ? blocks(p) : p.count;
    moments.m = arena.take<float>(floats);
    moments.v = arena.take<float>(floats);
    list.push_back(moments);
  }
  return list;
}

int64_t QuantizedMoments::bytes(const std::vector<Parameter>& parameters) {
  Arena counting;
  lay_out(parameters, counting);
  return counting.used();
}

QuantizedMoments::QuantizedMoments(std::shared_ptr<Backend> backend, const std::vector<Parameter>& parameters)
    : backend_(backend), parameters_(parameters), arena_(backend, bytes(parameters)), moments_(lay_out(parameters, arena_)) {
  for (size_t i = 0; i < moments_.size(); ++i) {
    const Parameter& p = parameters_[i];
    const bool quantized = is_quantized(p);
    for (uint8_t* codes : {moments_[i].m_codes, moments_[i].v_codes}) {
      if (codes) backend_->fill_zero(codes, p.count);
    }
    for (float* values : {moments_[i].m, moments_[i].v}) backend_->fill_zero(values, 4 * (quantized ? blocks(p) : p.count));
  }
}

void QuantizedMoments::update(size_t index, const FlatValues& values, float weight_decay, const AdamWOptions& options) {
  const Parameter& p = parameters_[index];
  const Moments& moments = moments_[index];
  const MasterValues master = values.masters(p.offset);
  const float* grad = values.grad + p.offset;
  if (moments.m_codes) {
    backend_->adamw8bit({master, moments.m_codes, moments.v_codes, moments.m, moments.v, grad, p.count, weight_decay}, options);
  } else {
    backend_->adamw({master, moments.m, moments.v, grad, p.count, weight_decay}, options);
  }
}

}  // namespace polypaca
