import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { measured, model, options, peer, quick, ROOT, say } from '../harness.mjs';
import { around as aroundTraining, copyWithDigest, writeChats } from '../parts/around.mjs';
import { SHAPES, writeRandomModel } from '../random-model.mjs';
import { readBenchRows } from '../rows.mjs';
import { gigabytes, table } from '../tables.mjs';

/** The time around a training, of this checkout and, with --before, of another one, by turns. */
export async function around() {
  const scratch = await mkdtemp(path.join(tmpdir(), 'lorasmith-around-'));
  try {
    const largeModel = path.resolve(options['large-model'] ?? path.join(scratch, 'llama-1b'));
    if (options['large-model'] === undefined) {
      await writeRandomModel(largeModel, { family: 'llama', shape: SHAPES['1b'], tokenizerFrom: model });
    }
    const chats = path.join(scratch, 'chats.jsonl');
    const { text } = await readBenchRows(options.rows, 100_000);
    const rows = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    await writeChats({ rows, bytes: quick ? 3e6 : 30e6, file: chats });

    /** @type {Record<string, any[]>} */
    const runs = { now: [], before: [] };
    const adapter = path.join(scratch, 'adapter');
    for (let turn = 0; turn < (quick ? 1 : 2); turn++) {
      for (const [name, root] of [
        ['before', options.before],
        ['now', ROOT],
      ]) {
        if (root === undefined) continue;
        const folder = path.join(scratch, 'stack');
        const options = { root: path.resolve(root), folder, model, largeModel, chats };
        const first = runs.now?.length === 0 && name === 'now';
        runs[/** @type {string} */ (name)]?.push(
          await aroundTraining({ ...options, ...(first ? { adapterTo: adapter } : {}) }),
        );
        await rm(folder, { recursive: true });
      }
    }
    const loading = { model: largeModel, precision: 'bfloat16' };
    const before = options.before && (await measured('loading', loading, path.resolve(options.before)));
    const load = { before, ...(await measured('loading', loading)) };
    const copy = await copyWithDigest({ from: largeModel, to: path.join(scratch, 'copy') });
    await rm(path.join(scratch, 'copy'), { recursive: true });
    const hasPeer = options['peer-python'] !== undefined;
    const peft = hasPeer
      ? await peer('around_baseline.py', ['merge', largeModel, adapter, path.join(scratch, 'merged')])
      : null;
    const tokenized = hasPeer ? await peer('around_baseline.py', ['tokenize', model, chats]) : null;
    sayAround({ now: runs.now ?? [], before: runs.before ?? [], load, copy, peft, tokenized });
    return { ...runs, load, copy, peft, tokenized };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** @param {{ now: any[], before: any[], load: any, copy: any, peft: any, tokenized: any }} results */
function sayAround({ now, before, load, copy, peft, tokenized }) {
  /** @type {[name: string, of: (run: any) => number, unit: string, peer?: string][]} */
  const lines = [
    ['merged model, first time', (run) => run.mergeSeconds, 's', peft && `${peft.seconds.toFixed(1)} s, PEFT`],
    ['downloading it again', (run) => run.download.bytes / run.download.seconds / 1e6, 'MB/s'],
    ['processor time of api and registry', (run) => run.download.cpuSeconds / (run.download.bytes / 1e9), 's/GB'],
    ['large model, cold: POST /jobs to the end of the first step', (run) => run.coldJob.firstStep, 's'],
    ['one step of it', (run) => run.warmJob.step, 's'],
    ['large model, warm: POST /jobs to the end of the first step', (run) => run.warmJob.firstStep, 's'],
    ['large model: last step to published', (run) => (run.coldJob.published + run.warmJob.published) / 2, 's'],
    ['small model: last step to published', (run) => run.smallJob.published, 's'],
    ['small model, warm: a job of one step', (run) => run.smallJob.whole, 's'],
    ['uploading the chats', (run) => run.rows.bytes / run.rows.uploadSeconds / 1e6, 'MB/s'],
    ['POST /jobs on them answers after', (run) => run.rows.answerSeconds, 's'],
    [
      'tokenizing them',
      (run) => run.rows.bytes / run.rows.tokenizedSeconds / 1e6,
      'MB/s',
      tokenized && `${(tokenized.bytes / tokenized.seconds / 1e6).toFixed(1)} MB/s, transformers`,
    ],
  ];
  say(
    'Around a training. The large model has 1.07 billion parameters in bfloat16 (2.15 GB), r = 16 on all linear layers.',
  );
  say(
    table(
      ['what', 'before', 'now', 'peer'],
      lines.map(([name, of, unit, theirs]) => [
        name,
        bestText(before.map(of), unit),
        bestText(now.map(of), unit),
        theirs ?? '',
      ]),
    ),
  );
  say(`Copying its files with their sha256: ${copy.seconds.toFixed(1)} s.`);
  const rate = (/** @type {number} */ bytes) => `${gigabytes(bytes)}/s`;
  const earlier = load.before ? `; before ${rate(load.before.load_bytes_per_second)}` : '';
  say(
    `Loading it: ${rate(load.load_bytes_per_second)}, with its digest ${rate(load.first_load_bytes_per_second)}${earlier}; a plain read ${rate(load.plain_bytes_per_second)}.\n`,
  );
}

/**
 * The better of the runs: what another process takes of the machine only makes them worse.
 *
 * @param {number[]} values @param {string} unit
 */
function bestText(values, unit) {
  if (values.length === 0) return '';
  const best = unit === 'MB/s' ? Math.max(...values) : Math.min(...values);
  return `${best < 10 ? best.toFixed(2) : best.toFixed(0)} ${unit}`;
}
