import type { AdapterProbe } from '@lorasmith/contracts';
import type { ModelFolder, ModelText, ModelTexts, Tokenizer } from '@lorasmith/model-folder';
import type { ActingAdapter, Classifier, Decoder, LoadedModel, ModelAdapter } from '@lorasmith/models';
import { exponential, max, scope, slice, subtract, sum, type Tensor, toFloat32Array } from '@lorasmith/tensor';
import type { InTimeSlice } from '../shared-pass/engine-time.js';
import { type ProbePrompt, type ProbeText, probeTexts, promptAt, spreadNumbers } from './probe-texts.js';

/** `[rows, width]` in row-major order. */
export interface Matrix {
  values: Float32Array;
  width: number;
}

/**
 * The logarithm of the softmax of each row, and the logits that it is of.
 * @param x `[rows, width]` float32
 */
export function logProbabilities(x: Tensor): { logits: Matrix; logprobs: Matrix } {
  const [rows, width] = x.shape as [number, number];
  const { values, largest, total } = scope(() => {
    const largest = max(x, 1, { keepDims: true }); // [rows, 1]
    const total = sum(exponential(subtract(x, largest)), 1); // [rows]
    return { values: toFloat32Array(x), largest: toFloat32Array(largest), total: toFloat32Array(total) };
  });
  const logprobs = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    const logTotal = largest[row]! + Math.log(total[row]!);
    for (let i = row * width; i < (row + 1) * width; i++) logprobs[i] = values[i]! - logTotal;
  }
  return { logits: { values, width }, logprobs: { values: logprobs, width } };
}

/** Root mean square of the differences of all entries. */
export function rmsDifference(one: Matrix, other: Matrix): number {
  let squares = 0;
  for (let i = 0; i < one.values.length; i++) squares += (one.values[i]! - other.values[i]!) ** 2;
  return Math.sqrt(squares / one.values.length);
}

/** The distance of entries from the mean of their row, as a root mean square. */
export function rmsSpread({ values, width }: Matrix): number {
  let squares = 0;
  for (let start = 0; start < values.length; start += width) {
    let total = 0;
    for (let i = start; i < start + width; i++) total += values[i]!;
    const mean = total / width;
    for (let i = start; i < start + width; i++) squares += (values[i]! - mean) ** 2;
  }
  return Math.sqrt(squares / values.length);
}

/** The columns with the greatest entries of a row, greatest first; of equal ones the first. */
export function topColumns({ values, width }: Matrix, row: number, count: number): number[] {
  const top: number[] = [];
  const start = row * width;
  let least = Number.NEGATIVE_INFINITY;
  for (let column = 0; column < width; column++) {
    const value = values[start + column]!;
    if (top.length === count && value <= least) continue;
    let rank = top.length;
    while (rank > 0 && values[start + top[rank - 1]!]! < value) rank--;
    top.splice(rank, 0, column);
    if (top.length > count) top.pop();
    least = values[start + top.at(-1)!]!;
  }
  return top;
}

/** A fixed input for a model, to compare its results before and after a step that must not change them. */
export interface ProbeRun {
  /** Tokens of the input; rows for a classifier. */
  readonly tokens: number;
  /** The base alone: computed in an engine call when it is first asked for, and kept. */
  alone(inEngineCall: InTimeSlice): Promise<ProbeOutputs>;
  /** The base with each of these adapters: one pass over a stream that has the input once for each. */
  run(adapters: readonly ModelAdapter[]): ProbeOutputs[];
  /** The part of it that the manifest contains. */
  record(base: ProbeOutputs, adapter: ProbeOutputs): AdapterProbe;
}

/** `[positions, classes]` */
export interface ProbeOutputs {
  logits: Matrix;
  logprobs: Matrix;
}

/** Next tokens in the manifest, of base and adapter each. */
const TOP_TOKENS = 5;
/** Prompts in the manifest, of all that are run. */
const KEPT_CASES = 4;
/** Rows of features for a classifier; fewer if they would make the manifest too long. */
const FEATURE_ROWS = 8;
const MOST_KEPT_FEATURES = 16_384;

interface KeptProbe {
  /** Null for a classifier. */
  text: ModelText | null;
  probe: Promise<ProbeRun>;
}

/** The probes that are kept as long as their base model is in memory. */
const kept = new WeakMap<LoadedModel, KeptProbe>();

/** The probe of a base model in memory, the same for all its adapters until a file of its tokenizer changes. */
export async function prepareProbe(base: LoadedModel, model: ModelFolder, texts: ModelTexts): Promise<ProbeRun> {
  const text = base.kind === 'classifier' ? null : await texts.of(model.path);
  const known = kept.get(base);
  if (known !== undefined && known.text === text) return await known.probe;
  const probe = newProbe(base, text);
  kept.set(base, { text, probe });
  // One that failed is made again.
  probe.catch(() => kept.get(base)?.probe === probe && kept.delete(base));
  return await probe;
}

async function newProbe(base: LoadedModel, text: ModelText | null): Promise<ProbeRun> {
  if (base.kind === 'classifier') return classifierProbe(base);
  return decoderProbe(base, await probeTexts(base.architecture, text!), text!.tokenizer);
}

function decoderProbe(base: Decoder, texts: readonly ProbeText[], tokenizer: Tokenizer): ProbeRun {
  const ids = Int32Array.from(texts.flatMap((text) => [...text.ids]));
  const lengths = texts.map((text) => text.ids.length);
  const positions: { text: ProbeText; position: number }[] = [];
  const inStream: number[] = [];
  let start = 0;
  for (const text of texts) {
    for (const position of text.positions) {
      positions.push({ text, position });
      inStream.push(start + position);
    }
    start += text.ids.length;
  }
  const run = (adapters: readonly (ModelAdapter | null)[]) => {
    const stream = {
      ids: repeated(ids, adapters.length),
      rowLengths: adapters.flatMap(() => lengths),
    };
    const wanted = Int32Array.from(adapters.flatMap((_, i) => inStream.map((token) => i * ids.length + token)));
    return scope(() => {
      const logits = base.logitsAt(wanted, stream, onTheirTokens(adapters, ids.length));
      return resultsOf(logits, adapters.length);
    });
  };
  return {
    tokens: ids.length,
    alone: keptResult(ids.length, () => run([null])[0]!),
    run,
    record: ({ logprobs: ofBase }, { logprobs: ofAdapter }) => {
      const candidates = positions.flatMap(({ text, position }, row) => {
        // A server reads the prompt alone, and a rope may depend on its length.
        const prompt = base.hasSameRope(position + 1, text.ids.length) ? promptAt(text, position, tokenizer) : null;
        return prompt === null ? [] : [{ row, prompt }];
      });
      return tokenProbe(candidates, ofBase, ofAdapter, tokenizer, base);
    },
  };
}

/**
 * Keeps the positions at which base and adapter differ most clearly. Those at which one of them ends the text come last: most
 * servers answer the end with nothing.
 */
function tokenProbe(
  candidates: readonly { row: number; prompt: ProbePrompt }[],
  base: Matrix,
  adapter: Matrix,
  tokenizer: Tokenizer,
  { dtype, architecture }: Pick<Decoder, 'dtype' | 'architecture'>,
): AdapterProbe {
  const judged = candidates.map(({ row, prompt }) => {
    const of = ({ values, width }: Matrix, id: number) => values[row * width + id]!;
    const byAdapter = topColumns(adapter, row, TOP_TOKENS);
    const byBase = topColumns(base, row, TOP_TOKENS);
    const next_tokens = [...new Set([...byAdapter, ...byBase])].map((id) => ({
      id,
      // In some models the head has more rows than the tokenizer has tokens.
      text: id < tokenizer.vocabSize ? tokenizer.decode([id]) : '',
      base_logprob: of(base, id),
      adapter_logprob: of(adapter, id),
    }));
    const [first, firstOfBase] = [byAdapter[0]!, byBase[0]!];
    const contrast = of(adapter, first) - of(adapter, firstOfBase) + of(base, firstOfBase) - of(base, first);
    const apart = next_tokens.reduce((sum, token) => sum + Math.abs(token.base_logprob - token.adapter_logprob), 0);
    const kept = { prompt: prompt.prompt, token_ids: prompt.tokenIds, next_tokens };
    const ends = [first, firstOfBase].some((id) => architecture.eosTokenIds.includes(id));
    return { kept, ends, distinction: contrast + apart / next_tokens.length };
  });
  judged.sort((one, other) => Number(one.ends) - Number(other.ends) || other.distinction - one.distinction);
  return { kind: 'next-token', precision: dtype, cases: judged.slice(0, KEPT_CASES).map(({ kept }) => kept) };
}

function classifierProbe(base: Classifier): ProbeRun {
  const width = base.groups[0]!.linear.inFeatures;
  const rows = Math.max(1, Math.min(FEATURE_ROWS, Math.floor(MOST_KEPT_FEATURES / width)));
  const features = spreadNumbers(rows * width);
  const row = ({ values, width: columns }: Matrix, index: number) => [
    ...values.subarray(index * columns, (index + 1) * columns),
  ];
  const run = (adapters: readonly (ModelAdapter | null)[]) => {
    const all = { features: repeated(features, adapters.length), width };
    return scope(() => resultsOf(base.logits(all, onTheirTokens(adapters, rows)), adapters.length));
  };
  return {
    tokens: rows,
    alone: keptResult(rows, () => run([null])[0]!),
    run,
    record: ({ logits: ofBase }, { logits: ofAdapter }) => ({
      kind: 'class-scores',
      precision: base.dtype,
      cases: Array.from({ length: rows * width > MOST_KEPT_FEATURES ? 0 : rows }, (_, index) => ({
        features: row({ values: features, width }, index),
        base_scores: row(ofBase, index),
        adapter_scores: row(ofAdapter, index),
      })),
    }),
  };
}

function keptResult(tokens: number, compute: () => ProbeOutputs): ProbeRun['alone'] {
  let result: ProbeOutputs | null = null;
  return async (inEngineCall) => {
    // Another job may have computed it while this one waited.
    result ??= await inEngineCall(tokens / 2, () => result ?? compute());
    return result;
  };
}

function repeated<Numbers extends Int32Array | Float32Array>(numbers: Numbers, times: number): Numbers {
  const all = new (numbers.constructor as new (length: number) => Numbers)(times * numbers.length);
  for (let i = 0; i < times; i++) all.set(numbers, i * numbers.length);
  return all;
}

/** Adapters that each act on their repetition of the input, of `count` tokens. */
function onTheirTokens(adapters: readonly (ModelAdapter | null)[], count: number): ActingAdapter[] {
  return adapters.flatMap((adapter, i) => (adapter === null ? [] : [{ adapter, tokens: { first: i * count, count } }]));
}

/** @param logits `[parts × positions, classes]` */
function resultsOf(logits: Tensor, parts: number): ProbeOutputs[] {
  const positions = logits.shape[0]! / parts;
  return Array.from({ length: parts }, (_, i) => logProbabilities(slice(logits, [i * positions, 0], [positions, -1])));
}
