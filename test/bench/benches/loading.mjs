import { measured, say } from '../measured.mjs';
import { gigabytes, table } from '../tables.mjs';

/** Loading the model as it is, and, if nothing in it is quantized, with weights that are quantized as they are read. */
export async function loading() {
  const asStored = await measured('loading', { precision: 'bfloat16' });
  const isDense = ['float32', 'float16', 'bfloat16'].includes(asStored.dtype);
  const quantized = isDense ? [await measured('loading', { precision: 'bfloat16', quantization: 'nf4' })] : [];
  const results = [asStored, ...quantized].map((result, i) => ({ quantization: i === 0 ? 'none' : 'nf4', ...result }));
  say(`Loading ${gigabytes(asStored.bytes)} in ${asStored.dtype}: bytes of the files per second, page cache warm`);
  say(
    table(
      ['base_quantization', 'with sha256', 'sha256 remembered', 'plain read', 'peak memory'],
      results.map((result) => [
        result.quantization,
        `${gigabytes(result.first_load_bytes_per_second)}/s`,
        `${gigabytes(result.load_bytes_per_second)}/s`,
        `${gigabytes(result.plain_bytes_per_second)}/s`,
        gigabytes(result.peak_rss_bytes),
      ]),
    ),
  );
  return results;
}
