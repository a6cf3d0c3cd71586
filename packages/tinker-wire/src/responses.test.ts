import { describe, expect, test } from 'vitest';
import { decodeForwardBackwardOutput, encodeForwardBackwardOutput } from './forward-backward-output.js';
import { MessageReader } from './message-reader.js';
import { decodeSampleResponse, encodeSampleResponse, type SampleResponse } from './sample-response.js';
import { WireError } from './wire-error.js';

/** The bytes and integers of a message by field; those of a field that is there several times follow each other. */
function fieldsOf(bytes: Uint8Array): Record<number, (Uint8Array | number)[]> {
  const reader = new MessageReader(bytes, 'message');
  const fields: Record<number, (Uint8Array | number)[]> = {};
  while (reader.next()) {
    let value: Uint8Array | number;
    try {
      value = reader.bytes('field');
    } catch {
      value = reader.integer('field');
    }
    fields[reader.field] = [...(fields[reader.field] ?? []), value];
  }
  return fields;
}
const floatsOf = (bytes: unknown) => [...new Float32Array((bytes as Uint8Array).slice().buffer)];
const integersOf = (bytes: unknown) => [...new Int32Array((bytes as Uint8Array).slice().buffer)];
const longsOf = (bytes: unknown) => [...new BigInt64Array((bytes as Uint8Array).slice().buffer)].map(Number);

describe('the output of a forward-backward', () => {
  const logProbabilities = [Float32Array.of(-1, -2), Float32Array.of(-3, -4, -5, -6)];

  /** The `BatchedTensor`s of the records, each with the number of its data. */
  function tensorsOf(bytes: Uint8Array) {
    return fieldsOf(bytes)[2]!.map((record) => {
      const fields = fieldsOf(record as Uint8Array);
      const entry = fieldsOf(fields[2]![0] as Uint8Array);
      const tensor = fieldsOf(entry[2]![0] as Uint8Array);
      const shape = tensor[4] === undefined ? [] : [...(tensor[4][0] as Uint8Array)];
      return { count: fields[3]![0], data: floatsOf(tensor[1]![0]), offsets: longsOf(tensor[2]![0]), shape };
    });
  }

  test('has one record with the log-probabilities of all data', () => {
    expect(tensorsOf(encodeForwardBackwardOutput({ logProbabilities, metrics: {} }))).toEqual([
      { count: 2, data: [-1, -2, -3, -4, -5, -6], offsets: [0, 8, 24], shape: [] },
    ]);
    expect(tensorsOf(encodeForwardBackwardOutput({ logProbabilities, metrics: {}, targetsEach: 2 }))).toEqual([
      { count: 2, data: [-1, -2, -3, -4, -5, -6], offsets: [0, 8, 24], shape: [2] },
    ]);
  });

  test('has a record for each number of targets', () => {
    expect(tensorsOf(encodeForwardBackwardOutput({ logProbabilities, metrics: {}, targetsEach: [1, 4] }))).toEqual([
      { count: 1, data: [-1, -2], offsets: [0, 8], shape: [] },
      { count: 1, data: [-3, -4, -5, -6], offsets: [0, 16], shape: [4] },
    ]);
  });

  test('is read as it was written', () => {
    const output = { logProbabilities, metrics: { 'loss:sum': 1.5, 'tokens:sum': 6 } };
    expect(decodeForwardBackwardOutput(encodeForwardBackwardOutput(output))).toEqual(output);
    expect(decodeForwardBackwardOutput(encodeForwardBackwardOutput({ ...output, targetsEach: [1, 4] }))).toEqual(
      output,
    );
  });

  test('is refused for sizes that disagree, and for a metric that cannot be combined', () => {
    const encode = (change: object) => () => encodeForwardBackwardOutput({ logProbabilities, metrics: {}, ...change });
    expect(encode({ targetsEach: 4 })).toThrow('logprobs: has 2 numbers, and 4 of each position');
    expect(encode({ targetsEach: [1] })).toThrow('logprobs: has 2 data, and targetsEach 1');
    expect(encode({ metrics: { loss: 1 } })).toThrow('metrics: loss is not name:reduction');
    expect(encode({ metrics: { loss: 1 } })).toThrow(WireError);
  });
});

describe('a response of samples', () => {
  const response: SampleResponse = {
    sequences: [
      { stopReason: 'length', tokens: [7, 8], logProbabilities: [-0.5, -1], top: [[{ id: 7, logprob: -0.5 }], []] },
      { stopReason: 'stop', tokens: Int32Array.of(9), logProbabilities: Float32Array.of(-2), top: null },
    ],
    promptLogProbabilities: [null, -3],
    promptTop: [null, [{ id: 1, logprob: -0.25 }]],
    topK: 2,
    promptCacheHitTokens: 5,
  };

  test('has sequences, the prompt, and matrices with empty cells', () => {
    const fields = fieldsOf(encodeSampleResponse(response));
    const [first, second] = fields[1]!.map((bytes) => fieldsOf(bytes as Uint8Array));
    expect([first![1], integersOf(first![2]![0]), floatsOf(first![3]![0])]).toEqual([[1], [7, 8], [-0.5, -1]]);
    const top = fieldsOf(first![4]![0] as Uint8Array);
    expect([integersOf(top[1]![0]), floatsOf(top[2]![0])]).toEqual([
      [7, 0, 0, 0],
      [-0.5, -99_999, -99_999, -99_999],
    ]);
    expect([top[3], top[4]]).toEqual([[2], [2]]);
    expect([second![1], integersOf(second![2]![0]), second![4]]).toEqual([[0], [9], undefined]);
    expect(floatsOf(fields[2]![0])).toEqual([Number.NaN, -3]);
    const promptTop = fieldsOf(fields[3]![0] as Uint8Array);
    expect([integersOf(promptTop[1]![0]), promptTop[4]]).toEqual([[0, 0, 1, 0], [2]]);
    expect(fields[4]).toEqual([5]);
  });

  test('is read as it was written', () => {
    const [first, second] = response.sequences;
    const { topK: _, ...read } = response;
    expect(decodeSampleResponse(encodeSampleResponse(response))).toEqual({
      ...read,
      sequences: [{ ...first, tokens: Int32Array.of(7, 8), logProbabilities: Float32Array.of(-0.5, -1) }, second],
      promptTop: [[], [{ id: 1, logprob: -0.25 }]],
    });
  });

  test('has nothing of the prompt that was not wanted', () => {
    const fields = fieldsOf(encodeSampleResponse({ sequences: [], promptLogProbabilities: null, promptTop: null }));
    expect(Object.keys(fields)).toEqual(['4']);
  });

  test('is refused for sizes that disagree', () => {
    const [sequence] = response.sequences;
    const encode = (change: object) => () =>
      encodeSampleResponse({ ...response, sequences: [{ ...sequence!, ...change }] });
    expect(encode({ logProbabilities: [1] })).toThrow('logprobs: has 1 positions, and the sequence 2 tokens');
    expect(encode({ top: [] })).toThrow('topk_sampled_logprobs: has 0 positions, and the sequence 2 tokens');
  });
});
