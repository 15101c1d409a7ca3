#!/usr/bin/env python3
"""PyTorch beside polypaca: one training step of a BLOOM-, Pythia- or LLaMA-shaped model, LoRA or full fine-tuning, on the CPU or a GPU.

Uses transformers (and PEFT for LoRA) where they are installed; otherwise the same models written here in plain PyTorch,
operation for operation as transformers' eager code computes them. The output says which was used.

  python3 torch_peer.py --arch bloom --hidden 512 --layers 6 --heads 8 --vocab 32000 --seq 256 --micro-batch 4 \
      --method lora --numerics mixed --steps 5 --threads 2

--numerics mixed: fp32 weights and optimiser, bf16 autocast (what polypaca's bf16 training keeps);
           pure:  weights, gradients and Adam's moments in bf16 (PyTorch's fastest);
           fp32:  fp32 throughout.

The fastest honest variant of what this PyTorch has: scaled_dot_product_attention from 2.0 (with ALiBi as its mask); AdamW fused
where the CPU has it (2.4), else foreach; torch.compile (2.0) where two timed steps of it beat two of eager code, else eager.
--device cuda: the same step on a GPU, its time by CUDA events, its memory by PyTorch's allocator. Every form is timed and listed under
"forms": eager, torch.compile, and for LLaMA with Liger kernels where liger_kernel is installed; what did not run stands under
"failedForms". A model is built for each form, so that none pays for another's memory.
--describe prints what would be used, without running anything.
Prints one JSON object: tokensPerSecond, stepSeconds (median), seconds of every step, peakMemoryBytes (VmHWM), implementation; or
{"error": ...} with exit code 3 where a package is missing.
"""
import argparse, contextlib, ctypes, gc, json, math, os, resource, sys, time

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")  # large models: no room is lost between blocks

def missing(package, hint):
    refuse(f"{package} is not installed: {hint}")


def refuse(reason):
    print(json.dumps({"error": reason}))
    sys.exit(3)

try:
    import torch
    import torch.nn as nn
    import torch.nn.functional as F
except ImportError:
    missing("PyTorch", "apt-get install python3-torch python3-numpy, or pip install torch")


class LoraLinear(nn.Module):
    """As PEFT's lora.Linear: result + B(A(dropout(x))) * scaling, A and B in fp32 (bf16 in pure bf16)."""

    def __init__(self, base, rank, alpha, dropout):
        super().__init__()
        self.base, self.scaling, self.dropout = base, alpha / rank, nn.Dropout(dropout)
        self.lora_A = nn.Linear(base.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x):
        return self.base(x) + self.lora_B(self.lora_A(self.dropout(x.to(self.lora_A.weight.dtype)))) * self.scaling


class RMSNorm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.weight * wide.to(x.dtype)


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


class Block(nn.Module):
    def __init__(self, a):
        super().__init__()
        C, I = a.hidden, a.intermediate
        self.a = a
        norm = RMSNorm if a.arch == "llama" else nn.LayerNorm
        bias = a.arch != "llama"
        self.norm1, self.norm2 = norm(C), norm(C)
        if a.arch == "llama":
            D = C // a.heads
            self.q_proj, self.k_proj, self.v_proj = (nn.Linear(C, n * D, bias=False) for n in (a.heads, a.kv_heads, a.kv_heads))
            self.gate, self.up = nn.Linear(C, I, bias=False), nn.Linear(C, I, bias=False)
        else:
            self.query_key_value = nn.Linear(C, 3 * C)
            self.up = nn.Linear(C, I)
        self.dense, self.down = nn.Linear(C, C, bias=bias), nn.Linear(I, C, bias=bias)

    def attention(self, x, tables):
        a, (B, T, C) = self.a, x.shape
        H, D = a.heads, C // a.heads
        if a.arch == "llama":
            q, k, v = (p(x).view(B, T, -1, D).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        else:
            q, k, v = self.query_key_value(x).view(B, T, H, 3, D).permute(3, 0, 2, 1, 4)
        if a.arch != "bloom":
            cos, sin = tables["cos"].to(q.dtype), tables["sin"].to(q.dtype)
            n = cos.shape[-1]
            q = torch.cat((rotate(q[..., :n], cos, sin), q[..., n:]), -1)
            k = torch.cat((rotate(k[..., :n], cos, sin), k[..., n:]), -1)
        if k.shape[1] != H:
            k, v = (t.repeat_interleave(H // t.shape[1], 1) for t in (k, v))
        if hasattr(F, "scaled_dot_product_attention"):
            mask = tables["bias"].to(q.dtype) if a.arch == "bloom" else None
            return self.dense(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None).transpose(1, 2).reshape(B, T, C))
        if a.arch == "bloom":
            scores = torch.baddbmm(tables["alibi"].to(q.dtype).expand(B, H, T, T).reshape(B * H, T, T), q.reshape(B * H, T, D), k.reshape(B * H, T, D).transpose(1, 2), alpha=1 / math.sqrt(D)).view(B, H, T, T)
        else:
            scores = q @ k.transpose(2, 3) / math.sqrt(D)
        scores = scores.masked_fill(tables["mask"], torch.finfo(scores.dtype).min)
        p = F.softmax(scores, -1, dtype=torch.float32).to(v.dtype)
        return self.dense((p @ v).transpose(1, 2).reshape(B, T, C))

    def mlp(self, x):
        if self.a.arch == "llama":
            return self.down(F.silu(self.gate(x)) * self.up(x))
        return self.down(F.gelu(self.up(x), approximate="tanh" if self.a.arch == "bloom" else "none"))

    def forward(self, x, tables):
        if self.a.arch == "gpt_neox":
            return x + self.attention(self.norm1(x), tables) + self.mlp(self.norm2(x))
        x = x + self.attention(self.norm1(x), tables)
        return x + self.mlp(self.norm2(x))


class Plain(nn.Module):
    def __init__(self, a):
        super().__init__()
        self.a = a
        self.embed = nn.Embedding(a.vocab, a.hidden)
        self.embed_norm = nn.LayerNorm(a.hidden) if a.arch == "bloom" else nn.Identity()
        self.blocks = nn.ModuleList(Block(a) for _ in range(a.layers))
        self.norm = RMSNorm(a.hidden) if a.arch == "llama" else nn.LayerNorm(a.hidden)
        self.head = nn.Linear(a.hidden, a.vocab, bias=False)
        if a.arch == "bloom":
            self.head.weight = self.embed.weight
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)
        T, D = a.seq, a.hidden // a.heads
        self.tables = {"mask": torch.ones(T, T, dtype=torch.bool).triu(1)}
        if a.arch == "bloom":
            slopes = torch.tensor([2 ** (-8 * (i + 1) / a.heads) for i in range(a.heads)])
            self.tables["alibi"] = slopes.view(1, a.heads, 1, 1) * torch.arange(T).view(1, 1, 1, T)
            self.tables["bias"] = self.tables["alibi"].masked_fill(self.tables["mask"], float("-inf"))
        else:
            n = D // 4 if a.arch == "gpt_neox" else D
            angle = torch.outer(torch.arange(T).float(), 10000.0 ** (-torch.arange(0, n, 2).float() / n))
            self.tables["cos"], self.tables["sin"] = torch.cat((angle, angle), -1).cos(), torch.cat((angle, angle), -1).sin()

    def forward(self, ids):
        x = self.embed_norm(self.embed(ids))
        for block in self.blocks:
            x = block(x, self.tables)
        logits = self.head(self.norm(x)).float()
        return F.cross_entropy(logits[:, :-1].reshape(-1, self.a.vocab), ids[:, 1:].reshape(-1))


TARGETS = {"bloom": ["query_key_value"], "gpt_neox": ["query_key_value"], "llama": ["q_proj", "k_proj", "v_proj"]}


def plain_model(a):
    model = Plain(a)
    if a.method == "lora":
        model.requires_grad_(False)
        for block in model.blocks:
            for name in TARGETS[a.arch]:
                setattr(block, name, LoraLinear(getattr(block, name), a.lora_rank, 16, a.lora_dropout))
    return model, lambda ids: model(ids)


def transformers_model(a):
    import transformers
    common = dict(vocab_size=a.vocab, use_cache=False)
    positions = dict(max_position_embeddings=max(2048, a.seq))
    if a.arch == "bloom":
        config = transformers.BloomConfig(hidden_size=a.hidden, n_layer=a.layers, n_head=a.heads, **common)
    elif a.arch == "gpt_neox":
        config = transformers.GPTNeoXConfig(hidden_size=a.hidden, num_hidden_layers=a.layers, num_attention_heads=a.heads, intermediate_size=a.intermediate, **positions, **common)
    else:
        config = transformers.LlamaConfig(hidden_size=a.hidden, num_hidden_layers=a.layers, num_attention_heads=a.heads, num_key_value_heads=a.kv_heads, intermediate_size=a.intermediate, **positions, **common)
    model = transformers.AutoModelForCausalLM.from_config(config)  # with scaled_dot_product_attention, where the model has it
    if a.method == "lora":
        import peft
        model = peft.get_peft_model(model, peft.LoraConfig(r=a.lora_rank, lora_alpha=16, lora_dropout=a.lora_dropout, target_modules=TARGETS[a.arch], task_type="CAUSAL_LM"))
    return model, lambda ids: model(input_ids=ids, labels=ids).loss


def peak_bytes():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def keep_freed_memory():
    """Tells glibc's malloc to keep what PyTorch frees. By default large tensors go back to the system and are faulted in again in
    every step, which on some virtual machines costs five times the step itself. Peak memory is read before this is called."""
    trim_threshold, top_pad, mmap_max, arena_max = -1, -2, -4, -8  # malloc.h
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # not glibc
    for parameter, value in ((mmap_max, 0), (trim_threshold, -1), (top_pad, 1 << 28), (arena_max, 1)):
        mallopt(parameter, value)


def adamw(trained):
    """The fastest AdamW that this version has for the CPU, and its name."""
    for options, name in (({"fused": True}, "fused AdamW"), ({"foreach": True}, "foreach AdamW")):
        try:
            return torch.optim.AdamW(trained, lr=1e-4, **options), name
        except (TypeError, ValueError, RuntimeError):
            continue
    return torch.optim.AdamW(trained, lr=1e-4), "AdamW"


def seconds_of(device, work):
    """What `work` takes: by the GPU's own events, else by the host's clock."""
    if device == "cpu":
        start = time.perf_counter()
        work()
        return time.perf_counter() - start
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    work()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000


class Step:
    """One optimiser step, timed: forward, loss, backward, clipping, AdamW. The batch is made before the clock starts."""

    def __init__(self, a, model, loss_of):
        self.a, self.loss_of = a, loss_of
        self.parameters = sum(q.numel() for q in model.parameters())
        self.trained = [q for q in model.parameters() if q.requires_grad]
        self.optimizer, self.optimizer_name = adamw(self.trained)
        self.loss = float("nan")

    def __call__(self):
        a = self.a
        ids = torch.randint(0, a.vocab, (a.micro_batch, a.seq), device=a.device)
        loss = None

        def work():
            nonlocal loss
            with torch.autocast(a.device.split(":")[0], dtype=torch.bfloat16, enabled=a.numerics == "mixed"):
                loss = self.loss_of(ids)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

        seconds = seconds_of(a.device, work)
        self.loss = float(loss.detach())
        return seconds


def new_step(a, implementation):
    """A model with random weights and its optimiser. On a GPU it is made there, in the type it trains in."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    if a.device != "cpu" and a.numerics == "pure":
        torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(a.device) if a.device != "cpu" else contextlib.nullcontext():
            model, loss_of = (transformers_model if implementation == "transformers" else plain_model)(a)
    finally:
        torch.set_default_dtype(before)
    if a.numerics == "pure":
        model.to(torch.bfloat16)
    model.train()
    return Step(a, model, loss_of)


def liger_for(a, implementation):
    """The function that puts Liger's kernels into models made from then on, or None."""
    if implementation != "transformers" or a.arch != "llama":
        return None
    try:
        from liger_kernel.transformers import apply_liger_kernel_to_llama
    except ImportError:
        return None
    return apply_liger_kernel_to_llama


def forms_on_gpu(a, implementation):
    """Times every form on its own: the list of what ran, and a line for each that did not."""
    forms, failed = [], []
    liger = liger_for(a, implementation)
    for name in ["eager", "torch.compile"] + (["Liger", "Liger and torch.compile"] if liger else []):
        step = None
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        try:
            if "Liger" in name:
                liger()
            step = new_step(a, implementation)
            if "compile" in name:
                step.loss_of = torch.compile(step.loss_of)
            for _ in range(a.warmup):
                step()
            seconds = [step() for _ in range(a.steps)]
            forms.append({"name": name, "seconds": seconds, "peakMemoryBytes": torch.cuda.max_memory_allocated(), "loss": step.loss,
                          "optimizer": step.optimizer_name, "parameters": step.parameters, "trainableParameters": sum(q.numel() for q in step.trained)})
        except Exception as failure:  # out of memory, or an operation that a compiler does not take: the other forms still count
            failed.append(f"{name}: {type(failure).__name__}: {str(failure).strip().splitlines()[0] if str(failure).strip() else ''}")
    return forms, failed


def median_of(seconds):
    return sorted(seconds)[len(seconds) // 2]


def run_on_gpu(a, implementation):
    torch.set_float32_matmul_precision("high")  # TF32 for the products that autocast leaves in fp32
    forms, failed = forms_on_gpu(a, implementation)
    if not forms:
        sys.exit("no form ran: " + "; ".join(failed))
    best = min(forms, key=lambda form: median_of(form["seconds"]))
    median = median_of(best["seconds"])
    return {
        "implementation": f"{describe(implementation)}, {torch.cuda.get_device_name(a.device)}, {best['optimizer']}",
        "numerics": a.numerics, "method": a.method, "parameters": best["parameters"], "trainableParameters": best["trainableParameters"],
        "tokensPerSecond": a.micro_batch * a.seq / median, "stepSeconds": median, "seconds": best["seconds"],
        "loss": best["loss"], "peakMemoryBytes": best["peakMemoryBytes"], "device": a.device, "form": best["name"], "forms": forms, "failedForms": failed}


def faster_of_eager_and_compiled(step, warmup):
    """Warms up, and leaves the faster form in `step`: its name, and the peak memory of eager code where that one stays.

    Once malloc keeps what is freed, the heap still grows for up to three steps (full fine-tuning in pure bf16: 4.5, 3.6 and 1.2 s
    before steps of 0.8 s), so `warmup` has to be three for the steps after it to be alike."""
    probes = 2
    step()
    eager_peak = peak_bytes()
    keep_freed_memory()
    for _ in range(warmup):
        step()
    if not hasattr(torch, "compile"):
        return "eager (this PyTorch has no torch.compile)", eager_peak
    eager, eager_seconds = step.loss_of, min(step() for _ in range(probes))
    try:
        step.loss_of = torch.compile(eager)
        for _ in range(warmup):
            step()
        if min(step() for _ in range(probes)) < eager_seconds:
            return "torch.compile", None
        reason = "torch.compile was slower"
    except Exception as failure:  # no compiler, an operation that it cannot take: eager code is what its users have then
        reason = f"torch.compile failed: {type(failure).__name__}"
    step.loss_of = eager
    step.optimizer.zero_grad(set_to_none=True)
    step()
    return f"eager ({reason})", eager_peak


def blas_warning(threads):
    """What Debian's python3-torch needs where nothing but its dependencies are installed: attention's fp32 products crawl there."""
    x = torch.randn(256, 256)
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        x @ x
        seconds.append(time.perf_counter() - start)
    rate = 2 * 256**3 / min(seconds) / 1e9
    if rate >= 5 * threads:
        return ""
    return f". WARNING: its fp32 products run at {rate:.0f} GFLOP/s, which is the reference BLAS; apt-get install libopenblas0-openmp makes this PyTorch several times faster"


def implementation_of(wanted):
    if wanted != "auto":
        return wanted
    try:
        import transformers, peft  # noqa: F401
        return "transformers"
    except ImportError:
        return "plain"


def describe(implementation):
    if implementation == "transformers":
        import peft, transformers
        return f"PyTorch {torch.__version__}, transformers {transformers.__version__}, PEFT {peft.__version__}"
    attention = "scaled_dot_product_attention" if hasattr(F, "scaled_dot_product_attention") else "batched products and softmax (no scaled_dot_product_attention in this version)"
    return f"PyTorch {torch.__version__}, models written in plain PyTorch (transformers and PEFT are not both installed), attention by {attention}"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--arch", choices=["bloom", "gpt_neox", "llama"], default="bloom")
    for name, default in dict(hidden=512, layers=6, heads=8, kv_heads=0, intermediate=0, vocab=32000, seq=256, micro_batch=4, lora_rank=8, steps=5, warmup=3, threads=2).items():
        p.add_argument("--" + name.replace("_", "-"), type=int, default=default)
    p.add_argument("--lora-dropout", type=float, default=0.05)
    p.add_argument("--method", choices=["lora", "fft"], default="lora")
    p.add_argument("--numerics", choices=["mixed", "pure", "fp32"], default="mixed")
    p.add_argument("--implementation", choices=["auto", "plain", "transformers"], default="auto")
    p.add_argument("--device", default="cpu", help="cpu, cuda or cuda:<n>")
    p.add_argument("--describe", action="store_true")
    a = p.parse_args()
    if a.device != "cpu" and not torch.cuda.is_available():
        refuse(f"PyTorch {torch.__version__} finds no GPU (torch.cuda.is_available() is False)")
    a.kv_heads = a.kv_heads or a.heads
    a.intermediate = a.intermediate or 4 * a.hidden
    implementation = implementation_of(a.implementation)
    if a.describe:
        print(json.dumps({"implementation": describe(implementation)}))
        return
    if a.device != "cpu":
        print(json.dumps(run_on_gpu(a, implementation)))
        return
    torch.set_num_threads(a.threads)
    step = new_step(a, implementation)
    form, peak = faster_of_eager_and_compiled(step, a.warmup)
    seconds = [step() for _ in range(a.steps)]
    median = median_of(seconds)
    print(json.dumps({
        "implementation": f"{describe(implementation)}, {step.optimizer_name}, {form}{blas_warning(a.threads)}",
        "numerics": a.numerics, "method": a.method, "parameters": step.parameters, "trainableParameters": sum(q.numel() for q in step.trained),
        "tokensPerSecond": a.micro_batch * a.seq / median, "stepSeconds": median, "seconds": seconds,
        "loss": step.loss, "peakMemoryBytes": peak or peak_bytes(), "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
