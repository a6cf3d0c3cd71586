/** One weight file of a merged model. */
export interface PlannedShard {
  file: string;
  tensors: string[];
  /** Bytes of the tensors. */
  bytes: number;
}

/**
 * Distributes tensors to weight files as Hugging Face does: a single `model.safetensors` if they fit, else
 * `model-00001-of-0000N.safetensors` etc., filled in order. A tensor larger than the limit has its own file.
 *
 * @param maxShardBytes the limit of tensor data per file
 */
export function planShards(tensors: readonly { name: string; bytes: number }[], maxShardBytes: number): PlannedShard[] {
  const groups: { tensors: string[]; bytes: number }[] = [{ tensors: [], bytes: 0 }];
  for (const { name, bytes } of tensors) {
    const last = groups.at(-1)!;
    if (last.bytes > 0 && last.bytes + bytes > maxShardBytes) {
      groups.push({ tensors: [name], bytes });
    } else {
      last.tensors.push(name);
      last.bytes += bytes;
    }
  }
  const number = (value: number) => String(value).padStart(5, '0');
  return groups.map((group, index) => ({
    file:
      groups.length === 1 ? 'model.safetensors' : `model-${number(index + 1)}-of-${number(groups.length)}.safetensors`,
    ...group,
  }));
}

/** The content of `model.safetensors.index.json`. */
export function shardIndex(shards: readonly PlannedShard[], totalBytes: number): unknown {
  const weightMap = shards.flatMap(({ file, tensors }) => tensors.map((name) => [name, file] as const));
  return {
    metadata: { total_size: totalBytes },
    weight_map: Object.fromEntries(weightMap.sort(([a], [b]) => (a < b ? -1 : 1))),
  };
}
