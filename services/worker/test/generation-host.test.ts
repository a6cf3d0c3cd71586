import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import {
  type BaseQuantization,
  type GenerationChunk,
  type GenerationRequest,
  JobDeferred,
  type TrainingSettings,
} from '@lorasmith/contracts';
import { ModelTexts } from '@lorasmith/model-folder';
import { BaseModelCache, chooseKernels, PassScheduler } from '@lorasmith/training';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { writeTinyLlama } from '../../../test/tiny-llama.js';
import { HAS_ALL_CASES } from '../../../test/usual-cases.js';
import { GenerationHost } from '../src/generation/generation-host.js';
import type { GenerationOrder } from '../src/trainer/messages.js';

const kernels = chooseKernels('fused');

// What a trainer does with requests for text, on the real engine in this process.

const ADAPTER = fileURLToPath(new URL('../../../test/fixtures/reference/llama-tied/adapter_trained', import.meta.url));
const ID = `ad_${'1'.repeat(24)}`;

let folder: string;
let model: string;
let cache: BaseModelCache;
let host: GenerationHost;
let reserved: number;
/** True if no more memory can be reserved. */
let isFull = false;
/** True if answers that have begun get no further. */
let isPaused = false;
let wake: () => void;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'lorasmith-generation-'));
  model = path.join(folder, 'tiny-llama');
  await writeTinyLlama(model);
  // A base model whose files have just been written is read again for each request.
  await sleep(2_100);
  makeHost();
});
afterAll(async () => {
  host.yieldMemory();
  cache.dispose();
  await rm(folder, { recursive: true, force: true });
});

const MEMORY = { cacheBytes: 2 ** 22, adapterBytes: 2 ** 20 };
function makeHost(memory = MEMORY) {
  host?.yieldMemory();
  cache?.dispose();
  reserved = 0;
  const scheduler = new PassScheduler();
  wake = () => scheduler.wake();
  cache = new BaseModelCache(kernels);
  host = new GenerationHost({
    cache,
    texts: new ModelTexts(),
    memory,
    ledger: {
      reserve(bytes) {
        if (isFull) throw new JobDeferred('The memory is full.');
        reserved += bytes;
        return () => {
          reserved -= bytes;
        };
      },
    },
    onLoading: () => {},
    onWork: wake,
  });
  const current = host;
  scheduler.generator = {
    hasWork: () => !isPaused && current.hasWork(),
    step: () => current.step(),
    fail: (error) => current.fail(error),
  };
}

const text = (prompt: string | number[], changes: Partial<GenerationRequest> = {}): GenerationRequest => ({
  base_model: 'tiny-llama',
  adapter: null,
  input: { kind: 'text', prompts: [prompt], echo: false },
  schema: null,
  n: 1,
  max_tokens: 12,
  temperature: 0,
  top_p: 1,
  top_k: 0,
  min_p: 0,
  presence_penalty: 0,
  frequency_penalty: 0,
  repetition_penalty: 1,
  seed: 1,
  stop: [],
  logprobs: null,
  ...changes,
});
const chat = (content: string): GenerationRequest =>
  text('', {
    input: { kind: 'chat', messages: [{ role: 'user', content }], tools: null, must_call: null, one_call: false },
  });

async function generate(
  request: GenerationRequest,
  options: {
    modelFolder?: string;
    adapterFolder?: string;
    precision?: TrainingSettings['precision'];
    quantization?: BaseQuantization;
    inTrainer?: GenerationOrder['inTrainer'];
    signal?: AbortSignal;
    onChunk?: (piece: GenerationChunk) => void;
  } = {},
) {
  const pieces: GenerationChunk[] = [];
  const { modelFolder = model, adapterFolder = null, signal = new AbortController().signal } = options;
  const {
    precision = 'auto',
    quantization = 'none',
    inTrainer = { precision: 'auto', quantization: 'none' },
  } = options;
  const form = { precision, quantization, inTrainer };
  const order = { request, modelFolder, adapterFolder, ...form, machine: null };
  const tokens = await host.generate(
    { ...order, weightDigests: path.join(folder, 'digests') },
    {
      signal,
      onChunk(piece) {
        pieces.push(piece);
        options.onChunk?.(piece);
      },
    },
  );
  const said: string[] = [];
  for (const piece of pieces) if (piece.type === 'text') said[piece.choice] = (said[piece.choice] ?? '') + piece.text;
  return { tokens, pieces, said };
}
const withAdapter = (request: GenerationRequest, id = ID): GenerationRequest => ({ ...request, adapter: id });

/** A copy of the model with changes. */
async function modelWith(name: string, change: (folder: string) => Promise<void>): Promise<string> {
  const copy = path.join(folder, name);
  await cp(model, copy, { recursive: true });
  await change(copy);
  return copy;
}

/** Bytes of the model's keys and values. */
const BYTES_PER_TOKEN = { float32: 1_536, bfloat16: 768 };

describe('an answer', () => {
  test('is the same in company, and counts its tokens', async () => {
    const alone = await generate(text('The sky', { logprobs: 2 }));
    expect(alone.tokens!.prompt).toBe(7);
    const company = await Promise.all([
      generate(withAdapter(chat('Hello')), { adapterFolder: ADAPTER }),
      generate(text('The sky', { logprobs: 2 })),
      generate(text('Once', { temperature: 1.5, n: 4, seed: 7 })),
    ]);
    expect(company[1]).toEqual(alone);
    expect(new Set(company[2].said).size).toBeGreaterThan(1);
    // A second request with it finds the adapter in memory.
    expect(await generate(withAdapter(chat('Hello')), { adapterFolder: '/nowhere' })).toEqual(company[0]);
  });

  test('is computed in its own precision, whichever the runs have the base model in', async () => {
    const inTrainer = { precision: 'float32', quantization: 'none' } as const;
    const ofAdapter = (precision: 'float32' | 'bfloat16') => {
      return generate(withAdapter(chat('Hello')), { adapterFolder: ADAPTER, precision, inTrainer });
    };
    makeHost();
    const before = await ofAdapter('bfloat16');
    expect(before.pieces[0]).toEqual({ type: 'start', precision: 'bfloat16' });
    const reservedBefore = reserved;
    // A run loads the base model in float32, and text beside it does not change.
    const exact = await ofAdapter('float32');
    expect(exact.pieces[0]).toEqual({ type: 'start', precision: 'float32' });
    expect(cache.formOf('tiny-llama')).toEqual({ dtype: 'float32', quantization: 'none' });
    expect(reserved).toBeGreaterThan(reservedBefore);
    expect(await Promise.all([ofAdapter('bfloat16'), ofAdapter('float32')])).toEqual([before, exact]);
    host.yieldMemory();
    expect(reserved).toBe(0);
    makeHost();
  });

  test('is refused where a copy of the base model does not fit, and nothing stays counted', async () => {
    makeHost();
    const inTrainer = { precision: 'float32', quantization: 'none' } as const;
    const options = { precision: 'bfloat16', inTrainer } as const;
    await generate(text('Once'), options);
    const other = await modelWith('other', async () => {});
    isFull = true;
    const refused = generate({ ...text('Once'), base_model: 'other' }, { ...options, modelFolder: other });
    await expect(refused).rejects.toMatchObject({ code: 'service_unavailable', retryAfterSeconds: 10 });
    isFull = false;
    host.yieldMemory();
    expect(reserved).toBe(0);
    makeHost();
  });

  test('is refused in a third form while one is answered in the second, which stays counted', async () => {
    const inTrainer = { precision: 'float32', quantization: 'none' } as const;
    await generate(text('On 3'), { precision: 'float32', inTrainer });
    isPaused = true;
    const other = new AbortController();
    const begun = new Promise<void>((resolve) => {
      void generate(text('On 4'), { precision: 'bfloat16', inTrainer, signal: other.signal, onChunk: () => resolve() });
    });
    await begun;
    const counted = reserved;
    await expect(
      generate(text('On 5'), { precision: 'float32', quantization: 'nf4', inTrainer }),
    ).rejects.toMatchObject({
      code: 'service_unavailable',
    });
    expect(reserved).toBe(counted);
    other.abort();
    isPaused = false;
    wake();
    makeHost();
  });

  test('ends at a stop text, and only the choice that has it', async () => {
    const { said } = await generate(text('Once', { max_tokens: 30 }));
    const stop = said[0]!.slice(4, 6);
    const stopped = await generate(text('Once', { max_tokens: 30, stop: [stop] }));
    expect(stopped.said[0]).toBe(said[0]!.slice(0, said[0]!.indexOf(stop)));
    expect(stopped.pieces.at(-1)).toEqual({ type: 'finish', choice: 0, reason: 'stop' });
    expect(stopped.tokens!.completion).toBeLessThan(30);
  });

  describe('in JSON of a schema', () => {
    const PERSON = {
      type: 'object',
      properties: {
        name: { type: 'string', minLength: 1, maxLength: 12 },
        age: { type: 'integer', minimum: 0, maximum: 150 },
        kind: { enum: ['human', 'robot'] },
        tags: { type: 'array', items: { type: 'string', maxLength: 6 }, maxItems: 3 },
        boss: { anyOf: [{ type: 'null' }, { $ref: '#/$defs/boss' }] },
      },
      required: ['name', 'age', 'kind', 'tags', 'boss'],
      additionalProperties: false,
      $defs: {
        boss: { type: 'object', properties: { id: { type: 'number' } }, required: ['id'], additionalProperties: false },
      },
    };
    const isPerson = new Ajv2020().compile(PERSON);
    const whole = (answer: Awaited<ReturnType<typeof generate>>) =>
      answer.pieces.flatMap((piece) =>
        piece.type === 'finish' && piece.reason === 'stop' ? [answer.said[piece.choice]!] : [],
      );

    test('has the schema with random weights, greedy and drawn, streamed in pieces, beside other texts', async () => {
      const alone = await generate(text('The sky', { logprobs: 2 }));
      const settings = [
        { temperature: 0 },
        { temperature: 1.5, n: 4, seed: 3 },
        { temperature: 2, n: 4, seed: 4, logprobs: 1, frequency_penalty: 1 },
        { temperature: 0, repetition_penalty: 1.5, stop: ['zzz'] },
      ];
      const answers = settings.map((setting) =>
        generate(text('Once', { max_tokens: 400, schema: PERSON, ...setting })),
      );
      const [other, ...found] = await Promise.all([generate(text('The sky', { logprobs: 2 })), ...answers]);
      expect(other).toEqual(alone);
      const texts = found.flatMap(whole);
      // Some reach the end of the context.
      expect(texts.length).toBeGreaterThan(0);
      for (const one of texts) expect([one, isPerson(JSON.parse(one))]).toEqual([one, true]);
      expect(found[0]!.pieces.filter(({ type }) => type === 'text').length).toBeGreaterThan(10);
    });

    test('is cut where max_tokens cuts it, and keeps the form of a chat', async () => {
      const LIST = { type: 'array', items: { type: 'string' }, minItems: 5 };
      const cut = await generate(text('Once', { max_tokens: 5, schema: LIST }));
      expect(cut.pieces.at(-1)).toEqual({ type: 'finish', choice: 0, reason: 'length' });
      expect(cut.said[0]).toMatch(/^\[/);
      const listed = await generate({ ...chat('Hello'), max_tokens: 40, schema: { enum: ['yes', 'no'] } });
      expect(['"yes"', '"no"']).toContain(listed.said[0]);
      expect(listed.pieces.at(-1)).toEqual({ type: 'finish', choice: 0, reason: 'stop' });
    });

    test('is a call of a tool where it must be one, with the schema of its arguments', async () => {
      const tool = (name: string, parameters: object) => ({
        type: 'function' as const,
        function: { name, parameters },
      });
      const tools = [
        tool('weather', {
          type: 'object',
          properties: { place: { $ref: '#/$defs/place' }, days: { type: 'integer', minimum: 1, maximum: 9 } },
          required: ['place', 'days'],
          additionalProperties: false,
          $defs: { place: { type: 'string', maxLength: 8 } },
        }),
        tool('now', { type: 'object', properties: {}, additionalProperties: false }),
        ...['one', 'other'].map((name) => tool(name, { enum: Array.from({ length: 600 }, (_, i) => `${name} ${i}`) })),
      ];
      const withTools = await modelWith('with-tools', async (copy) => {
        const template =
          '{% for tool in tools or [] %}<tool>{{ tool.function.name }}</tool>{% endfor %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}' +
          "{% for call in m.tool_calls or [] %}<tool_call>\n{{ {'name': call.function.name, 'arguments': call.function.arguments} | tojson }}\n</tool_call>{% endfor %}" +
          '<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}';
        await writeFile(path.join(copy, 'chat_template.jinja'), template);
      });
      const ask = (must_call: string[] | null) => {
        const input = {
          kind: 'chat' as const,
          messages: [{ role: 'user' as const, content: 'Hi' }],
          tools,
          must_call,
          one_call: true,
        };
        return generate(
          { ...text(''), input, max_tokens: 120, n: 3, temperature: 1.5, base_model: 'with-tools' },
          { modelFolder: withTools },
        );
      };
      const { pieces, said } = await ask(['weather']);
      const calls = pieces.filter(({ type }) => type === 'call') as Extract<GenerationChunk, { type: 'call' }>[];
      expect(said).toEqual([]);
      expect(calls.map(({ choice }) => choice).sort()).toEqual([0, 1, 2]);
      for (const { name, arguments: values } of calls) {
        expect(name).toBe('weather');
        expect(JSON.parse(values)).toEqual({ place: expect.any(String), days: expect.any(Number) });
      }
      const either = (await ask(['weather', 'now'])).pieces.filter(({ type }) => type === 'call');
      expect(either).toHaveLength(3);
      expect((await ask(null)).pieces.filter(({ type }) => type === 'finish')).toHaveLength(3);
      // Each is within the limits.
      await expect(ask(['one', 'other'])).rejects.toMatchObject({ code: 'invalid_request', param: 'tools' });
    });

    test.runIf(HAS_ALL_CASES)('has the schema with a real model', async () => {
      const folderOf = path.join(
        process.env.MODELS_DIR ?? fileURLToPath(new URL('../../../models', import.meta.url)),
        'SmolLM2-135M-Instruct',
      );
      // In float32 the cache has too few tokens for the answer.
      const inBfloat16 = { precision: 'bfloat16', inTrainer: { precision: 'bfloat16', quantization: 'none' } } as const;
      const question = 'Describe a person named Ada, aged 36, as JSON with name, age, kind, tags and boss.';
      const answer = await generate(
        { ...chat(question), base_model: 'SmolLM2-135M-Instruct', max_tokens: 200, schema: PERSON },
        { modelFolder: folderOf, ...inBfloat16 },
      );
      const [person] = whole(answer);
      expect([person, isPerson(JSON.parse(person!))]).toEqual([person, true]);
      const free = await generate(
        {
          ...chat(question),
          base_model: 'SmolLM2-135M-Instruct',
          max_tokens: 120,
          schema: { type: 'object' },
          n: 2,
          temperature: 0.8,
        },
        { modelFolder: folderOf, ...inBfloat16 },
      );
      for (const one of whole(free)) expect(typeof JSON.parse(one)).toBe('object');
      makeHost();
    });
  });

  test('stops when nobody wants it any more, before it begins and while it is generated', async () => {
    expect((await generate(text('Once'), { signal: AbortSignal.abort() })).tokens).toBeNull();
    const leaving = new AbortController();
    const { tokens, pieces } = await generate(text('Once', { max_tokens: 200 }), {
      signal: leaving.signal,
      onChunk: ({ type }) => type === 'text' && leaving.abort(),
    });
    expect([tokens, pieces.length]).toEqual([null, 2]);
    expect(host.hasWork()).toBe(false);
  });

  test.each([
    ['float32', 100_000],
    ['bfloat16', 50_000],
  ] as const)(
    'has as much space as the cache gives each choice in %s, and its memory is counted until nothing is answered',
    async (precision, cacheBytes) => {
      makeHost({ cacheBytes, adapterBytes: 2 ** 20 });
      const endless = await modelWith(`endless ${precision}`, async (copy) => {
        const config = JSON.parse(await readFile(path.join(copy, 'config.json'), 'utf8'));
        await writeFile(path.join(copy, 'config.json'), JSON.stringify({ ...config, eos_token_id: null }));
        await writeFile(path.join(copy, 'tokenizer_config.json'), '{}');
      });
      const options = { modelFolder: endless, precision };
      const { tokens, pieces } = await generate(text('Once', { max_tokens: 1_000 }), options);
      expect(pieces.at(-1)).toMatchObject({ type: 'finish', reason: 'length' });
      const space = tokens!.prompt + tokens!.completion;
      const long = text('x'.repeat(space));
      await expect(generate(long, options)).rejects.toMatchObject({ code: 'context_length_exceeded' });
      const two = text('x'.repeat(space / 2), { n: 2 });
      await expect(generate(two, options)).rejects.toMatchObject({ param: 'prompt' });
      // Two pages of 32 tokens.
      expect(space).toBe(64);
      expect(reserved).toBe(2 ** 20 + 64 * BYTES_PER_TOKEN[precision]);
      host.yieldMemory();
      expect(reserved).toBe(0);
      makeHost();
    },
  );
});

describe('it is refused', () => {
  test.each([
    ['an empty prompt', text(''), 'The prompt has no tokens.'],
    ['a token that the model has not', text([5, 99_999]), 'none with id 99999'],
  ])('%s', async (_, request, message) => {
    await expect(generate(request)).rejects.toMatchObject({ code: 'invalid_request', param: 'prompt' });
    await expect(generate(request)).rejects.toThrow(message);
  });

  test('a chat with a model that has no chat template', async () => {
    const plain = await modelWith('plain', (copy) => rm(path.join(copy, 'chat_template.jinja')));
    const asked = generate({ ...chat('Hello'), base_model: 'plain' }, { modelFolder: plain });
    await expect(asked).rejects.toMatchObject({ code: 'invalid_request', param: 'messages' });
    await expect(asked).rejects.toThrow('plain has no chat template. Use POST /v1/completions.');
  });

  test.each([
    ['raises an exception', "{{ raise_exception('no such turn') }}", 'no such turn'],
    ['is no template', '{% if', 'failed'],
  ])('a chat with a template that %s', async (name, template, message) => {
    const broken = await modelWith(`broken ${name}`, (copy) =>
      writeFile(path.join(copy, 'chat_template.jinja'), template),
    );
    const asked = generate(chat('Hello'), { modelFolder: broken });
    await expect(asked).rejects.toMatchObject({ code: 'chat_template_failed' });
    await expect(asked).rejects.toThrow(message);
  });

  test('an adapter of other weights', async () => {
    const other = path.join(folder, 'other-adapter');
    await cp(ADAPTER, other, { recursive: true });
    const base_model = {
      name: 'tiny-llama',
      family: 'llama',
      weights_sha256: '0'.repeat(64),
      architecture_sha256: '0'.repeat(64),
      quantization: null,
    };
    const manifest = {
      version: 1,
      id: ID,
      object: 'adapter',
      owner: null,
      name: null,
      created_at: '2026-01-01T00:00:00.000Z',
      origin: { kind: 'imported' },
      base_model,
      lora: { r: 4, alpha: 8, modules: [], rank_pattern: {}, alpha_pattern: {} },
      versions: {},
      files: [],
    };
    await writeFile(path.join(other, 'manifest.json'), JSON.stringify(manifest));
    const asked = generate(withAdapter(text('Once')), { adapterFolder: other });
    await expect(asked).rejects.toMatchObject({ code: 'invalid_adapter', param: 'model' });
  });

  test('an adapter that was deleted before it was loaded, without harm to the next request', async () => {
    await expect(
      generate(withAdapter(text('Once')), { adapterFolder: path.join(folder, 'deleted') }),
    ).rejects.toMatchObject({ name: 'ProductError' });
    expect((await generate(text('Once'))).tokens).not.toBeNull();
  });
});

test('an adapter whose numbers are not finite fails alone', async () => {
  const broken = path.join(folder, 'not-finite');
  await cp(ADAPTER, broken, { recursive: true });
  const file = path.join(broken, 'adapter_model.safetensors');
  const bytes = await readFile(file);
  // Large enough that products overflow.
  for (let place = 8 + Number(bytes.readBigUInt64LE()); place < bytes.length; place += 4)
    bytes.writeFloatLE(1e38, place);
  await writeFile(file, bytes);
  const alone = await generate(text('Once', { max_tokens: 20 }));
  const [failed, well] = await Promise.allSettled([
    generate(withAdapter(text('Once', { max_tokens: 20 }), `ad_${'2'.repeat(24)}`), { adapterFolder: broken }),
    generate(text('Once', { max_tokens: 20 })),
  ]);
  expect(failed).toMatchObject({
    status: 'rejected',
    reason: { code: 'invalid_adapter', param: 'model', message: expect.stringContaining('not finite') },
  });
  expect(well).toEqual({ status: 'fulfilled', value: alone });
});

test('adapters beyond the memory for them are loaded again, and those in use stay', async () => {
  const [one, two] = [`ad_${'3'.repeat(24)}`, `ad_${'4'.repeat(24)}`];
  makeHost({ cacheBytes: 2 ** 22, adapterBytes: 1 });
  const first = await generate(withAdapter(text('Once'), one), { adapterFolder: ADAPTER });
  await generate(withAdapter(text('Once'), two), { adapterFolder: ADAPTER });
  await expect(generate(withAdapter(text('Once'), one), { adapterFolder: '/nowhere' })).rejects.toThrow();
  expect(await generate(withAdapter(text('Once'), one), { adapterFolder: ADAPTER })).toEqual(first);
  isPaused = true;
  let answer: ReturnType<typeof generate> | undefined;
  await new Promise<void>((onChunk) => {
    answer = generate(withAdapter(text('Once'), one), { adapterFolder: ADAPTER, onChunk: () => onChunk() });
  });
  await expect(generate(withAdapter(text('Once'), two), { adapterFolder: ADAPTER })).rejects.toMatchObject({
    code: 'service_unavailable',
    retryAfterSeconds: 10,
  });
  isPaused = false;
  wake();
  expect(await answer).toEqual(first);
  makeHost();
});

test('a base model that changes on disk is not mixed with the one in memory', async () => {
  const changing = await modelWith('changing', async () => {});
  const request = { ...text('Once', { max_tokens: 40 }), base_model: 'changing' };
  const before = await generate(request, { modelFolder: changing });
  let during: Promise<unknown> | null = null;
  const file = path.join(changing, 'model.safetensors');
  const bytes = await readFile(file);
  // The last numbers of the weights.
  bytes.fill(0, bytes.length - 4_096);
  const old = await generate(request, {
    modelFolder: changing,
    onChunk() {
      during ??= writeFile(file, bytes).then(() => generate(request, { modelFolder: changing }));
      during.catch(() => {});
    },
  });
  expect(old).toEqual(before);
  // While the old one is in use it is refused, and later the new one is loaded.
  await during!.then(
    (after) => expect(after).not.toEqual(before),
    (error) => expect(error).toMatchObject({ code: 'service_unavailable' }),
  );
  expect(await generate(request, { modelFolder: changing })).not.toEqual(before);
});
