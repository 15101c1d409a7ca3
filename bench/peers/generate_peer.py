#!/usr/bin/env python3
"""PyTorch + transformers beside `polypaca generate`: decodes batches of prompts with a model folder, one round for each line on stdin.

  python3 generate_peer.py --model DIR --dtype bf16 --threads 2 [--compile]

A line is JSON: {"prompts": [[id, ...], ...] of one length, "newTokens": N, "numBeams": B}. The answer is a line of JSON: {"seconds", "tokens":
[[id, ...], ...]}. The first line it prints is {"implementation"}, or {"error"} with exit code 3 where a package is missing.
No EOS stops a prompt, so that both sides do the same work. --compile: a static cache and torch.compile, as transformers offers it for
greedy decoding; what did not run answers {"error"}.
"""
import argparse, json, sys, time


def say(message):
    print(json.dumps(message), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--compile", action="store_true")
    a = parser.parse_args()
    try:
        import torch
        import transformers
    except ImportError as missing:
        say({"error": f"{missing.name} is not installed: pip install torch transformers, and name that Python in POLYPACA_PYTHON"})
        sys.exit(3)
    torch.set_num_threads(a.threads)
    transformers.logging.set_verbosity_error()
    dtype = torch.bfloat16 if a.dtype == "bf16" else torch.float32
    model = transformers.AutoModelForCausalLM.from_pretrained(a.model, torch_dtype=dtype).eval()
    model.generation_config.eos_token_id = None
    attention = getattr(model.config, "_attn_implementation", "unknown")
    form = "static cache, torch.compile" if a.compile else "eager"
    say({"implementation": f"PyTorch {torch.__version__}, transformers {transformers.__version__}, {form}, attention {attention}, {a.dtype}"})
    for line in sys.stdin:
        job = json.loads(line)
        ids = torch.tensor(job["prompts"])
        options = dict(max_new_tokens=job["newTokens"], min_new_tokens=job["newTokens"], num_beams=job["numBeams"], do_sample=False, pad_token_id=0)
        if a.compile:
            options["cache_implementation"] = "static"
        try:
            with torch.inference_mode():
                start = time.perf_counter()
                out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
                seconds = time.perf_counter() - start
            say({"seconds": seconds, "tokens": out[:, ids.shape[1]:].tolist()})
        except Exception as failure:  # a form that this version has not for this model
            say({"error": f"{type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else ''}"})


main()
