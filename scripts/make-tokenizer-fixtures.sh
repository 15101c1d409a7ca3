#!/usr/bin/env bash
# Makes the tokenizers that are committed, and the ids that the tests expect of them, from the bundled sample:
#   experiments/sample/tokenizer.json (+ tokenizer_config.json)   byte-level BPE of 3,072 entries, also the demo's
#   test/tokenizer/fixtures/llama-like.tokenizer.model            SentencePiece BPE with byte fallback, as LLaMA's
#   test/tokenizer/fixtures/baichuan-like.tokenizer.model         the same without the dummy prefix, as Baichuan-2's
#   test/tokenizer/fixtures/rules.tokenizer.model                 normalisation rules, user-defined pieces, no byte fallback
#   test/tokenizer/fixtures/reference-ids.json                    200 lines with the ids that spm_encode gives
# Needs spm_train and spm_encode (Debian: apt-get install sentencepiece) and `npm run build`.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
fixtures=$root/test/tokenizer/fixtures
sample=("$root"/experiments/sample/alpaca.??.json)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$fixtures"

node scripts/train-byte-level-bpe.mjs 3072 experiments/sample "${sample[@]}"
node scripts/tokenizer-fixtures.mjs corpus "${sample[@]}" >"$scratch/corpus.txt"
node scripts/tokenizer-fixtures.mjs lines "${sample[@]}" >"$scratch/lines.txt"

# Relative names, since spm_train writes them into the model.
cd "$scratch"
printf 'FB01\t66 69\nFB02\t66 6C\nFF21\t41\nFF22\t42\nFF11\t31\n3000\t20\nA0\t20\n200B\t\n65 301\tE9\n' >rules.tsv
train() {
  local name=$1
  shift
  spm_train --input=corpus.txt --model_prefix="$name" --model_type=bpe --num_threads=1 --max_sentence_length=65536 --minloglevel=1 "$@"
  mv "$name.model" "$fixtures/$name.tokenizer.model"
  spm_encode --model="$fixtures/$name.tokenizer.model" --output_format=id lines.txt >"$name.ids"
}
as_llama=(--vocab_size=2000 --byte_fallback --character_coverage=0.99 --normalization_rule_name=identity
  --remove_extra_whitespaces=false --allow_whitespace_only_pieces --split_digits)
train llama-like "${as_llama[@]}"
train baichuan-like "${as_llama[@]}" --add_dummy_prefix=false
train rules --vocab_size=1200 --character_coverage=0.98 --normalization_rule_tsv=rules.tsv --user_defined_symbols='constructor,###,🙂🙂'

cd "$root"
node scripts/tokenizer-fixtures.mjs ids "$scratch/lines.txt" experiments/sample/tokenizer.json \
  llama-like="$scratch/llama-like.ids" baichuan-like="$scratch/baichuan-like.ids" rules="$scratch/rules.ids" >"$fixtures/reference-ids.json"
