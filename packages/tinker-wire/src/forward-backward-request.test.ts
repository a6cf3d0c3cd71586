import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { decodeForwardBackwardRequest } from './forward-backward-request.js';
import { bytesOf, MessageWriter } from './message-writer.js';
import { encodeForwardBackwardRequest } from './request-writer.js';
import { WireError } from './wire-error.js';

const LIMITS = { maxDatums: 4, maxTokens: 8 };

/** Requests that the wheel of tinker 0.38.0 has serialized. */
const WHEEL: Record<string, string> = JSON.parse(
  readFileSync(new URL('fixtures/wheel-bodies.json', import.meta.url), 'utf8'),
);

const ofWheel = (name: string) => decodeForwardBackwardRequest(Buffer.from(WHEEL[name]!, 'base64'), LIMITS);
const floats = (...values: number[]) => Float32Array.of(...values);
const ids = (...values: number[]) => Int32Array.of(...values);

describe('a request of the wheel', () => {
  test('has dense targets and weights, joined chunks, and a datum without weights', () => {
    expect(ofWheel('dense')).toEqual({
      modelId: 's:train:0',
      seqId: 1,
      op: {
        kind: 'forward-backward',
        loss: 'cross_entropy',
        settings: {},
        isForwardOnly: true,
        data: [
          {
            tokens: ids(5, 6, 7),
            targets: ids(6, 7, 151_935),
            targetsEach: 1,
            fields: { weights: floats(0, 1, -0.5) },
          },
          { tokens: ids(1), targets: ids(2), targetsEach: 1, fields: {} },
        ],
      },
    });
  });

  test.each(['dense', 'sparse', 'ppo', 'gspo'])('%s is read alike when our client writes it', (name) => {
    const request = ofWheel(name);
    expect(decodeForwardBackwardRequest(encodeForwardBackwardRequest(request), LIMITS)).toEqual(request);
  });

  test('has soft targets, sparse and dense', () => {
    const { op, seqId } = ofWheel('sparse');
    expect(seqId).toBe(2);
    expect(op.isForwardOnly).toBe(false);
    expect(op.data).toEqual([
      {
        tokens: ids(5, 6, 7),
        targets: ids(0, 0, 0, 0, 11, 0, 12, 0, 0, 0, 0, 13),
        targetsEach: 4,
        fields: { weights: floats(0, 0, 0, 0, 0.75, 0, 0.25, 0, 0, 0, 0, 1) },
      },
      {
        tokens: ids(8, 9),
        targets: ids(1, 2, 3, 4),
        targetsEach: 2,
        fields: { weights: floats(0.5, 0.5, 0.25, 0.75) },
      },
    ]);
  });

  test('has the inputs and settings of ppo, and spans that are ignored', () => {
    const { op } = ofWheel('ppo');
    expect(op.loss).toBe('ppo');
    expect(op.settings).toEqual({ clip_low_threshold: 0.9, clip_high_threshold: 1.1 });
    expect(op.data[0]).toEqual({
      tokens: ids(5, 6, 7),
      targets: ids(6, 7, 8),
      targetsEach: 1,
      fields: { logprobs: floats(0, -1.5, -0.25), advantages: floats(0, 1, 1) },
    });
  });

  test('has the mask and the thresholds of the tokens of gspo', () => {
    expect(ofWheel('gspo').op.data[0]!.fields).toEqual({
      logprobs: floats(0, -1.5),
      advantages: floats(0, 1),
      sequence_ratio_mask: floats(0, 1),
      clip_low_threshold: floats(0.9, 0.9),
      clip_high_threshold: floats(1.2, 1.3),
    });
  });

  test.each([
    ['text', 'loss_fn_config_v2."clip_low_threshold": is a text, and must be a number'],
    ['image', 'data[0].model_input: images are not supported'],
    ['reinforce', 'loss_fn: "stable_reinforce" is not supported: train with loss_fn=ppo or importance_sampling'],
    ['custom', 'loss_fn: "custom" is not supported: give forward_backward_custom a function'],
  ])('is refused with %s', (name, message) => {
    expect(() => ofWheel(name)).toThrow(WireError);
    expect(() => ofWheel(name)).toThrow(message);
  });
});

interface TensorParts {
  dtype?: number;
  shape?: number[];
  dense?: ArrayBufferView;
  sparse?: { values: ArrayBufferView; rowStarts: bigint[]; columns: bigint[] };
}

function tensor({ dtype = 2, shape = [], dense, sparse }: TensorParts): MessageWriter {
  const writer = new MessageWriter().integer(3, dtype).integers(4, shape);
  if (dense) writer.bytes(1, bytesOf(dense));
  if (sparse) {
    const csr = new MessageWriter().bytes(1, bytesOf(sparse.values));
    csr.bytes(2, bytesOf(BigInt64Array.from(sparse.rowStarts))).bytes(3, bytesOf(BigInt64Array.from(sparse.columns)));
    writer.message(2, csr);
  }
  return writer;
}

const TARGETS = { dense: BigInt64Array.of(1n, 2n), shape: [2] };
const WEIGHTS = { dtype: 1, dense: floats(1, 1), shape: [2] };

const PPO = { loss: 'ppo', inputs: { target_tokens: TARGETS, logprobs: WEIGHTS, advantages: WEIGHTS } };

interface RequestParts {
  model?: string;
  seqId?: number;
  loss?: string;
  tokens?: ArrayBufferView;
  inputs?: Record<string, TensorParts>;
  datums?: number;
  oldSettings?: Record<string, number>;
  settings?: Record<string, number | null>;
  maxElements?: number;
}

function decode({
  model = 'model',
  seqId = 1,
  loss = 'cross_entropy',
  tokens = ids(1, 2),
  inputs = { target_tokens: TARGETS },
  datums = 1,
  oldSettings = {},
  settings = {},
  maxElements,
}: RequestParts) {
  const datum = new MessageWriter().message(
    1,
    new MessageWriter().message(1, new MessageWriter().bytes(1, bytesOf(tokens))),
  );
  for (const [name, parts] of Object.entries(inputs)) {
    datum.message(2, new MessageWriter().text(1, name).message(2, tensor(parts)));
  }
  const request = new MessageWriter().text(1, model).integer(2, seqId).text(4, loss);
  for (let index = 0; index < datums; index++) request.message(3, datum);
  for (const [name, value] of Object.entries(oldSettings)) {
    request.message(5, new MessageWriter().text(1, name).double(2, value));
  }
  for (const [name, value] of Object.entries(settings)) {
    const entry = new MessageWriter().text(1, name);
    request.message(7, value === null ? entry : entry.message(2, new MessageWriter().double(1, value)));
  }
  return decodeForwardBackwardRequest(request.finish(), {
    ...LIMITS,
    ...(maxElements === undefined ? {} : { maxElements }),
  });
}

const sparse = (rowStarts: bigint[], columns: bigint[], values = BigInt64Array.of(3n)) => ({
  target_tokens: { shape: [2, 2], sparse: { values, rowStarts, columns } },
});

describe('a request', () => {
  test('has inputs of every type, and targets of int32', () => {
    const { op } = decode({
      loss: 'ppo',
      inputs: {
        target_tokens: { dtype: 3, dense: ids(4, -5) },
        logprobs: { dtype: 4, dense: Uint16Array.of(0xbfc0, 0x3f80) },
        advantages: { dtype: 2, dense: BigInt64Array.of(-1n, 3n), shape: [2, 1] },
        clip_low_threshold: { dtype: 3, dense: ids(0, 1) },
      },
    });
    expect(op.data[0]).toEqual({
      tokens: ids(1, 2),
      targets: ids(4, -5),
      targetsEach: 1,
      fields: { logprobs: floats(-1.5, 1), advantages: floats(-1, 3), clip_low_threshold: floats(0, 1) },
    });
  });

  test.each<[string, RequestParts, string]>([
    ['no model', { model: '' }, 'model_id: is missing'],
    ['no place', { seqId: 0 }, 'seq_id: 0 is not 1, 2, …'],
    ['no data', { datums: 0 }, 'data: is empty'],
    ['too many data', { datums: 5 }, 'data: has more than 4 items'],
    ['an unknown loss', { loss: 'hinge' }, 'loss_fn: "hinge" is not known'],
    ['no tokens', { tokens: ids() }, 'data[0].model_input: has no tokens'],
    ['half a token', { tokens: Uint8Array.of(1, 2) }, 'data[0].model_input: has 2 bytes, and tokens of 4 bytes each'],
    ['too many tokens', { tokens: new Int32Array(9) }, 'data[0].model_input: has more than 8 tokens'],
    ['no targets', { inputs: {} }, 'data[0].loss_fn_inputs: the loss cross_entropy needs target_tokens'],
    [
      'a missing input',
      { loss: 'dro', inputs: { target_tokens: TARGETS, logprobs: WEIGHTS } },
      'data[0].loss_fn_inputs: the loss dro needs advantages',
    ],
    [
      'weights of another loss',
      { loss: 'ppo', inputs: { target_tokens: TARGETS, weights: WEIGHTS } },
      'data[0].loss_fn_inputs: the loss ppo has no input "weights"',
    ],
    [
      'weights of another size',
      { inputs: { target_tokens: TARGETS, weights: { dtype: 1, dense: floats(1) } } },
      'data[0].loss_fn_inputs.weights: has the shape [1], and target_tokens [2]',
    ],
    [
      'targets of another length',
      { inputs: { target_tokens: { dense: BigInt64Array.of(1n) } } },
      'data[0].loss_fn_inputs.target_tokens: has 1 positions, and model_input 2 tokens',
    ],
    [
      'a target beyond 32 bits',
      { inputs: { target_tokens: { dense: BigInt64Array.of(1n, 2n ** 31n) } } },
      'data[0].loss_fn_inputs.target_tokens: has an integer beyond 32 bits at 1',
    ],
    ['targets of float32', { inputs: { target_tokens: WEIGHTS } }, 'must have the dtype int64 or int32'],
    ['an unknown type', { inputs: { target_tokens: { ...TARGETS, dtype: 9 } } }, 'dtype: 9 is not float32'],
    [
      'soft targets of ppo',
      {
        loss: 'ppo',
        inputs: {
          target_tokens: { dense: new BigInt64Array(4), shape: [2, 2] },
          logprobs: { dtype: 1, dense: new Float32Array(4), shape: [2, 2] },
          advantages: { dtype: 1, dense: new Float32Array(4), shape: [2, 2] },
        },
      },
      'has 2 targets of each position: the loss ppo has 1 to 1',
    ],
    [
      'too many targets',
      { inputs: { target_tokens: { dense: new BigInt64Array(130), shape: [2, 65] } } },
      'has 65 targets of each position: the loss cross_entropy has 1 to 64',
    ],
    ['a shape that lies', { inputs: { target_tokens: { ...TARGETS, shape: [1e9, 1e9] } } }, 'too many elements'],
    [
      'a shape and fewer bytes',
      { inputs: { target_tokens: { ...TARGETS, shape: [3] } } },
      'has 16 bytes, and the shape [3]',
    ],
    ['a negative size', { inputs: { target_tokens: { ...TARGETS, shape: [-2] } } }, 'has the negative size -2'],
    [
      'three dimensions',
      { inputs: { target_tokens: { ...TARGETS, shape: [1, 1, 2] } } },
      'has more than two dimensions',
    ],
    ['too many elements', { datums: 3, maxElements: 5 }, 'data[2].loss_fn_inputs.target_tokens: has the shape [2]: '],
    ['rows that descend', { inputs: sparse([0n, 2n, 1n], [0n]) }, 'has crow_indices that descend at 0'],
    ['rows that miss a value', { inputs: sparse([0n, 0n, 0n], [0n]) }, 'must have crow_indices from 0 to 1'],
    ['too few rows', { inputs: sparse([0n, 1n], [0n]) }, 'has 2 rows, and 2 crow_indices'],
    ['a column too far', { inputs: sparse([0n, 1n, 1n], [2n]) }, 'has the column 2 at 0'],
    ['a negative column', { inputs: sparse([0n, 1n, 1n], [-1n]) }, 'has the column -1 at 0'],
    [
      'a column twice',
      { inputs: sparse([0n, 2n, 2n], [0n, 0n], BigInt64Array.of(3n, 4n)) },
      'has the column 0 at 1: those of a row ascend, and are below 2',
    ],
    ['values without columns', { inputs: sparse([0n, 1n, 1n], []) }, 'has 1 values, and 0 col_indices'],
    [
      'columns that cost no bytes',
      {
        inputs: { target_tokens: { shape: [2, 1e6], sparse: { values: ids(), rowStarts: [0n, 0n, 0n], columns: [] } } },
      },
      'has 1000000 columns, and may have 64',
    ],
  ])('is refused with %s', (_title, parts, message) => {
    expect(() => decode(parts)).toThrow(WireError);
    expect(() => decode(parts)).toThrow(message);
  });

  test('has the older settings if there are no newer ones', () => {
    expect(decode({ ...PPO, oldSettings: { clip_low_threshold: 0.5 } }).op.settings).toEqual({
      clip_low_threshold: 0.5,
    });
    const both = { oldSettings: { clip_low_threshold: 0.5 }, settings: { clip_high_threshold: 2 } };
    expect(decode({ ...PPO, ...both }).op.settings).toEqual({ clip_high_threshold: 2 });
  });

  test('is refused with a setting that the loss does not know, or that has no value', () => {
    const [oldSettings, message] = [{ beta: 1 }, 'the loss ppo has no setting "beta"'];
    expect(() => decode({ ...PPO, oldSettings })).toThrow(`loss_fn_config: ${message}`);
    expect(() => decode({ ...PPO, settings: oldSettings })).toThrow(`loss_fn_config_v2: ${message}`);
    const valueless = { ...PPO, settings: { clip_low_threshold: null } };
    expect(() => decode(valueless)).toThrow('loss_fn_config_v2."clip_low_threshold": has no value');
  });

  test('is refused with an input that is there twice, or with more fields than a client writes', () => {
    const entry = new MessageWriter().text(1, 'target_tokens').message(2, tensor(TARGETS));
    const request = (datum: MessageWriter) =>
      new MessageWriter().text(1, 'model').integer(2, 1).text(4, 'ppo').message(3, datum);
    const twice = request(new MessageWriter().message(2, entry).message(2, entry)).finish();
    const message = 'data[0].loss_fn_inputs.target_tokens: is there twice';
    expect(() => decodeForwardBackwardRequest(twice, LIMITS)).toThrow(message);
    // Empty chunks of two bytes each
    const empty = Uint8Array.from({ length: 2 ** 21 }, (_, index) => (index % 2 === 0 ? 0x0a : 0));
    const many = request(new MessageWriter().message(1, new MessageWriter().bytes(1, empty))).finish();
    expect(() => decodeForwardBackwardRequest(many, LIMITS)).toThrow('has too many fields');
  });
});
