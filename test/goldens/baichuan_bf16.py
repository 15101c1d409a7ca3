#!/usr/bin/env python3
"""What bf16 costs PyTorch on 08-baichuan2-alibi: relative L2 of the gradients under bf16 autocast and in pure bf16 against fp32.

The README's table has no Baichuan row, and none for adapters: this is where src/verify/limits.ts gets its limit for the
gradients of all adapters together. Needs PyTorch 1.10 or newer:  python3 test/goldens/baichuan_bf16.py
"""
import json, math, os, struct
import torch
import torch.nn.functional as F

torch.set_num_threads(1)
folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "08-baichuan2-alibi")
heads, hidden, layers, scaling, epsilon = 6, 48, 3, 2.0, 1e-6


def load(name):
    data = open(os.path.join(folder, name), "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    header = {k: v for k, v in json.loads(data[8 : 8 + size]).items() if k != "__metadata__"}
    body = lambda v: bytearray(data[8 + size + v["data_offsets"][0] : 8 + size + v["data_offsets"][1]])
    return {k: torch.frombuffer(body(v), dtype=torch.float32).reshape(v["shape"]).clone() for k, v in header.items()}


def alibi_slopes(n):
    c = 2 ** int(math.log2(n))
    return torch.tensor([2 ** (-8 * i / c) for i in range(1, c + 1)] + [2 ** (-8 * (2 * j - 1) / (2 * c)) for j in range(1, n - c + 1)])


def rms_norm(x, w):
    wide = x.float()
    return w * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)).to(x.dtype)


def logits(W, A, ids):
    x, T = W["model.embed_tokens.weight"][ids], len(ids)
    position = torch.arange(T)
    bias = alibi_slopes(heads)[:, None, None] * (position[None, :] - position[:, None]).float() + torch.full((T, T), -math.inf).triu(1)
    for layer in range(layers):
        name = f"model.layers.{layer}."
        h = rms_norm(x, W[name + "input_layernorm.weight"])
        qkv = F.linear(h, W[name + "self_attn.W_pack.weight"])
        if A:
            adapter = f"base_model.model.{name}self_attn.W_pack.lora_"
            qkv = qkv + F.linear(F.linear(h, A[adapter + "A.weight"]), A[adapter + "B.weight"]) * scaling
        q, k, v = (t.view(T, heads, -1).transpose(0, 1) for t in qkv.split(hidden, -1))
        scores = q @ k.transpose(1, 2) / math.sqrt(hidden // heads) + bias
        attention = (F.softmax(scores, -1, dtype=torch.float32).to(q.dtype) @ v).transpose(0, 1).reshape(T, hidden)
        x = x + F.linear(attention, W[name + "self_attn.o_proj.weight"])
        h = rms_norm(x, W[name + "post_attention_layernorm.weight"])
        x = x + F.linear(F.silu(F.linear(h, W[name + "mlp.gate_proj.weight"])) * F.linear(h, W[name + "mlp.up_proj.weight"]), W[name + "mlp.down_proj.weight"])
    head = W["lm_head.weight"]
    return F.linear(rms_norm(x, W["model.norm.weight"]), (head.float() / head.float().norm(dim=1, keepdim=True)).to(head.dtype))


def gradients(weights, adapter, case, numerics):
    dtype = torch.bfloat16 if numerics == "pure" else torch.float32
    W = {k: v.clone().to(dtype).requires_grad_(not adapter) for k, v in weights.items()}
    A = {k: v.clone().to(dtype).requires_grad_() for k, v in adapter.items()}
    total, targets = 0, 0
    for ids, labels in zip(case["input_ids"], case["labels_response"]):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=numerics == "autocast"):
            predicted = logits(W, A, torch.tensor(ids))
        wanted = torch.tensor(labels[1:])
        total = total + F.cross_entropy(predicted.float()[:-1], wanted, reduction="sum", ignore_index=-100)
        targets += (wanted != -100).sum()
    (total / targets).backward()
    return {k: v.grad.float() for k, v in (A or W).items()}


def relative(found, expected):
    whole = lambda g: torch.cat([g[k].flatten() for k in sorted(expected)])
    together = (whole(found) - whole(expected)).norm() / whole(expected).norm()
    return float(together), max(float((found[k] - expected[k]).norm() / expected[k].norm()) for k in expected)


weights, adapter = load("model.safetensors"), load("adapter/adapter_model.safetensors")
case = json.load(open(os.path.join(folder, "case.json")))
for what, trained in (("all weights", {}), ("adapter", adapter)):
    expected = gradients(weights, trained, case, "fp32")
    for numerics in ("autocast", "pure"):
        together, worst = relative(gradients(weights, trained, case, numerics), expected)
        print(f"{what}, {numerics}: all gradients together {together:.4f}, worst tensor {worst:.4f}")
