/**
 * Cross-entropy of a softmax against one target per row. logits [rows, V], targets [rows]; a negative target is the ignored label.
 * Losses in nats; dlogits is the gradient of the sum of the losses, softmax - onehot.
 */
export function crossEntropy(logits: ArrayLike<number>, targets: ArrayLike<number>, V: number) {
  const rows = targets.length;
  const losses = new Float64Array(rows);
  const dlogits = new Float64Array(rows * V);
  for (let r = 0; r < rows; r++) {
    const target = targets[r]!;
    if (target < 0) continue;
    let max = Number.NEGATIVE_INFINITY;
    for (let v = 0; v < V; v++) max = Math.max(max, logits[r * V + v]!);
    let sum = 0;
    for (let v = 0; v < V; v++) sum += Math.exp(logits[r * V + v]! - max);
    losses[r] = max + Math.log(sum) - logits[r * V + target]!;
    for (let v = 0; v < V; v++) dlogits[r * V + v] = Math.exp(logits[r * V + v]! - max) / sum - (v === target ? 1 : 0);
  }
  return { losses, dlogits };
}
