import { mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { ROOT_DIR } from '../../../../scripts/setup/locations.mjs';
import { ReaderProcess, ReaderRefused } from './reader-process.mjs';

/**
 * A reader under test. It resolves for valid input and throws a refusal for other input. Any other error is a finding.
 *
 * @typedef {object} Target
 * @property {(input: Buffer) => Promise<void>} read
 * @property {(error: unknown) => boolean} isRefusal
 * @property {string[]} words of the format
 * @property {(input: Buffer) => Buffer} [repair] corrects a length or a checksum, so that the reader continues after it
 * @property {() => Promise<void>} [start] starts what reads the next input, which does not count as its time
 * @property {boolean} [mayBeSlow] in the product it has bounds of its own
 * @property {() => void} [close]
 */

/** The config of the seeds of `quantized` and `scaled`. */
const TINY_LLAMA = {
  ...{ model_type: 'llama', vocab_size: 4, hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1 },
  ...{ num_attention_heads: 2, num_key_value_heads: 1, max_position_embeddings: 16, tie_word_embeddings: true },
};

/** The config of the seeds of `mxfp4`. */
const TINY_GPT_OSS = {
  ...{
    model_type: 'gpt_oss',
    vocab_size: 4,
    hidden_size: 32,
    intermediate_size: 32,
    num_hidden_layers: 1,
    head_dim: 16,
  },
  ...{ num_attention_heads: 2, num_key_value_heads: 1, num_local_experts: 2, num_experts_per_tok: 1 },
  ...{ tie_word_embeddings: true, quantization_config: { quant_method: 'mxfp4' } },
};

/** The config of the seeds of `quantized-experts`: each row of an expert is a block of 64. */
const TINY_MIXTURE = {
  ...{ model_type: 'qwen3_moe', vocab_size: 4, hidden_size: 64, moe_intermediate_size: 64, num_hidden_layers: 1 },
  ...{ num_attention_heads: 2, num_key_value_heads: 1, head_dim: 4, num_experts: 2, num_experts_per_tok: 1 },
  ...{ intermediate_size: 64, norm_topk_prob: true, tie_word_embeddings: true },
};

/** The parts of a weight in 4 bits. */
const WORDS_OF_4_BITS = [
  ...['"U8"', '"F32"', '"shape":[', '"data_offsets":[', '.absmax', '.nested_absmax', '.quant_map'],
  ...['.nested_quant_map', '.quant_state.bitsandbytes__nf4', '.quant_state.bitsandbytes__fp4', '"blocksize": 64'],
  ...['"nested_offset": 1e999', '"nested_blocksize"', '"dtype": "float16"', 'null', '-1'],
  ...['\xff\xff\xff\x7f', '\x00\x00\x80\x7f'],
];

/** The unpacked part of an input. */
const MAX_UNPACKED_BYTES = 10_000_000;

/** @param {string} file */
const compiled = async (file) => await import(path.join(ROOT_DIR, file));

/** @param {unknown} error @param {string[]} names */
const isNamed = (error, names) => error instanceof Error && names.includes(error.constructor.name);

/**
 * A model of this config with a weight file: read with its folder, and merged with an adapter that changes nothing.
 * @param {string} folder
 * @param {object} config
 * @param {string[]} words
 * @returns {Promise<Target>}
 */
async function modelWith(folder, config, words) {
  const { readModelFolder } = await compiled('packages/model-folder/dist/index.js');
  const { mergeModel } = await compiled('packages/export/dist/index.js');
  const [model, merged] = [path.join(folder, 'model'), path.join(folder, 'merged')];
  await mkdir(model);
  await writeFile(path.join(model, 'config.json'), JSON.stringify(config));
  return {
    async read(input) {
      await writeFile(path.join(model, 'model.safetensors'), input);
      const read = await readModelFolder(model);
      await mkdir(merged);
      try {
        await mergeModel({ model: read, adapter: { modules: new Map() }, outputFolder: merged });
        const { parameterCount } = await readModelFolder(merged);
        if (parameterCount !== read.parameterCount) throw new Error(`merged, it has ${parameterCount} parameters`);
      } finally {
        await rm(merged, { recursive: true });
      }
    },
    isRefusal: (error) => isNamed(error, ['ProductError']),
    repair: withTrueHeaderLength,
    words,
  };
}

/** @type {Record<string, (folder: string) => Promise<Target>>} each receives its own empty folder */
export const TARGETS = {
  async safetensors(folder) {
    const { openSafetensors } = await compiled('packages/weight-files/dist/index.js');
    const location = path.join(folder, 'x.safetensors');
    return {
      async read(input) {
        await writeFile(location, input);
        const file = await openSafetensors(location);
        try {
          for (const name of file.tensors.keys()) await file.read(name);
        } finally {
          await file.close();
        }
      },
      isRefusal: (error) => isNamed(error, ['SafetensorsError']),
      repair: withTrueHeaderLength,
      words: [
        '"F32"',
        '"BF16"',
        '"dtype":',
        '"shape":[',
        '"data_offsets":[',
        '"__metadata__":{',
        '{}',
        '[',
        ']',
        ',',
        '1e999',
        '-1',
        '"__proto__":',
        '\\u0061',
        '9007199254740993',
      ],
    };
  },

  async tar() {
    const { unpackAdapterTar } = await compiled('services/registry/dist/importing/adapter-tar.js');
    return {
      async read(input) {
        const written = new Set();
        const staging = {
          async write(/** @type {string} */ name, /** @type {AsyncIterable<Uint8Array>} */ source) {
            if (written.has(name) || !/^adapter_(config\.json|model\.safetensors)$/.test(name)) {
              throw new Error(`it wrote ${JSON.stringify(name)}`);
            }
            written.add(name);
            for await (const _ of source);
          },
        };
        await unpackAdapterTar(piecesOf(input), staging);
      },
      isRefusal: (error) => isNamed(error, ['ProductError']),
      repair: withTrueChecksums,
      words: [
        'ustar\x0000',
        'adapter_config.json',
        'adapter_model.safetensors',
        '../',
        '/',
        '././@LongLink',
        'PaxHeader',
        '23 path=adapter_x.json\n',
        '14 size=99999\n',
        '\x80\0\0\0\0\0\0\0\xff\xff\xff\xff',
        '00000000144\0',
        'x',
        'L',
        'K',
        'g',
        '5',
        '1',
        '2',
      ],
    };
  },

  async jsonl(folder) {
    const { linesOfText } = await compiled('packages/row-files/dist/text-lines.js');
    const { DatasetChecker } = await compiled('services/api/dist/datasets/dataset-checker.js');
    const { parseLine, readLines } = await compiled('packages/planning/dist/json-lines.js');
    const { checkRow } = await compiled('packages/planning/dist/dataset-row.js');
    const location = path.join(folder, 'x.jsonl');
    return {
      async read(input) {
        const checker = new DatasetChecker({ maxBytes: 1e6, maxLineBytes: 4_000, maxRows: 100 });
        const stored = [];
        const lines = linesOfText(piecesOf(input), { columns: 'of-rows', maxLineBytes: 4_000 });
        for await (const piece of lines) stored.push(checker.push(piece));
        stored.push(checker.end());
        const { rows, format } = checker.finish();
        // Planning must read the same rows that an upload stores.
        await writeFile(location, Buffer.concat(stored));
        let read = 0;
        const rowsRead = [];
        for await (const lines of readLines(location)) rowsRead.push(...lines.map(parseLine));
        for (const row of rowsRead) {
          if (row === null) continue;
          if (row.fault !== null)
            throw new Error(`line ${row.line} was accepted at upload but has a fault in planning: ${row.fault}`);
          const checked = checkRow(row.value);
          if (checked.row === null || checked.format !== format)
            throw new Error(`line ${row.line} was accepted at upload but not in planning`);
          read++;
        }
        if (read !== rows) throw new Error(`${rows} rows were accepted at upload, ${read} were read in planning`);
        await rm(location);
      },
      isRefusal: (error) => isNamed(error, ['ProductError']),
      words: [
        '{"text":"',
        '{"prompt":"',
        '"completion":"',
        '{"messages":[',
        '{"role":"assistant","content":"',
        '"features":[',
        '"label":',
        '"label":true',
        '"chosen":"',
        '"rejected":"',
        '"instruction":"',
        '"output":"',
        '"}\n',
        '\\ud800',
        '\\u0000',
        '1e999',
        '-0',
        '[[[[',
        '\xef\xbb\xbf',
        '\xc0\xaf',
        '\r\n',
        '\n\n',
        '"__proto__":',
        '\u2028',
        'prompt,completion\n',
        'text\n',
        ';',
        '\t',
        '""',
      ],
    };
  },

  async config(folder) {
    const { readModelFolder } = await compiled('packages/model-folder/dist/index.js');
    const { writeSafetensors } = await compiled('packages/weight-files/dist/index.js');
    const scalar = { name: 'x', shape: [], dtype: 'F32', data: new Uint8Array(4) };
    await writeSafetensors(path.join(folder, 'model.safetensors'), [scalar]);
    return {
      async read(input) {
        await writeFile(path.join(folder, 'config.json'), input);
        // A valid config is refused, too, but only because its tensors are not there.
        await readModelFolder(folder);
      },
      isRefusal: (error) => isNamed(error, ['ProductError']),
      words: [
        '"model_type":"',
        '"text_config":{',
        '"rope_parameters":{',
        '"rope_scaling":{"rope_type":"',
        '"full_attention"',
        '"sliding_attention"',
        '"layer_types":[',
        '"sliding_window_pattern":"LLLG"',
        '"num_hidden_layers":1000000000',
        '"is_causal":false',
        '"llama3"',
        '"longrope"',
        '"yarn"',
        'null',
        'true',
        '1e999',
        '-1',
        '0.5',
        '9007199254740993',
        '"__proto__":',
        '{}',
        '[]',
      ],
    };
  },

  /** A weight file with parts in 4 bits: read with its folder, and merged with an adapter that changes nothing. */
  quantized: (folder) => modelWith(folder, TINY_LLAMA, WORDS_OF_4_BITS),

  /** The same with experts, each by itself. */
  'quantized-experts': (folder) =>
    modelWith(folder, TINY_MIXTURE, [
      ...WORDS_OF_4_BITS,
      ...['.experts.1.', '.experts.2.up_proj.weight', 'mlp.experts.gate_up_proj', '[2,128,64]', '[64,64]'],
    ]),

  /** The same with weights in 8 bits. */
  scaled: (folder) =>
    modelWith(folder, { ...TINY_LLAMA, quantization_config: { quant_method: 'fp8', weight_block_size: [4, 8] } }, [
      ...['"F8_E4M3"', '"F8_E8M0"', '"F32"', '"BF16"', '"U8"', '"shape":[', '"shape":[]', '"data_offsets":[', '[2,1]'],
      ...['_scale_inv', '.activation_scale', '-1', '\xff\xff\xff\xff', '\x00\x00\x80\xff', '\x00\x00\x80\x7f'],
    ]),

  /** The same with experts in MXFP4. */
  mxfp4: (folder) =>
    modelWith(folder, TINY_GPT_OSS, [
      ...[
        '"U8"',
        '"BF16"',
        '"F8_E8M0"',
        '"shape":[',
        '"shape":[2,64,1,16]',
        '"data_offsets":[',
        '_blocks',
        '_scales',
        '_bias',
      ],
      ...['gate_up_proj', 'down_proj', '.experts.0.up_proj.weight', '-1', '\xff\xff\xff\xff', '\x00\x00\x80\x7f'],
    ]),

  /** Records of CSV: the same rows for any chunks, and each of them JSON. */
  async csv() {
    const { linesOfText } = await compiled('packages/row-files/dist/text-lines.js');
    const { parseColumnMapping } = await compiled('packages/row-files/dist/column-mapping.js');
    const mapping = parseColumnMapping('prompt:a,completion:b');
    return {
      async read(input) {
        let refused = false;
        for (const columns of ['of-rows', 'all', mapping]) {
          /** @param {AsyncIterable<Buffer>} chunks */
          const linesOf = async (chunks) => {
            const parts = [];
            for await (const part of linesOfText(chunks, { columns, maxLineBytes: 4_000 })) parts.push(part);
            return Buffer.concat(parts).toString();
          };
          const whole = await orRefused(() => linesOf(piecesOf(input, input.length)));
          const pieces = await orRefused(() => linesOf(piecesOf(input)));
          if (pieces !== whole) throw new Error('the rows differ by the chunks in which the file came');
          refused ||= whole === null;
        }
        if (refused) throw new ReaderRefused('with one of the choices of columns');
      },
      isRefusal: (error) => error instanceof ReaderRefused,
      words: [
        'prompt,completion\n',
        'text\n',
        'a,b\n',
        'messages\n',
        '"',
        '""',
        ',',
        ';',
        '\t',
        '\n',
        '\r\n',
        '\r',
        '\xef\xbb\xbf',
        '\xff',
        '[{}]',
        '__proto__',
      ],
    };
  },

  /** Its inputs may take any time and memory, which ends their process, in the product too. */
  async parquet() {
    const reader = new ReaderProcess('parquet');
    return {
      start: () => reader.start(),
      read: (input) => reader.read(input),
      isRefusal: (error) => isNamed(error, ['ReaderRefused', 'ReaderEnded']),
      mayBeSlow: true,
      close: () => reader.close(),
      words: [
        'PAR1',
        'schema',
        'prompt',
        '\x15\0',
        '\x15\x02',
        '\x15\x04',
        '\x15\x0c',
        '\x15\x10',
        '\x19\x1c',
        '\x19\x2c',
        '\x26\x08',
        '\xff\xff\xff\xff\x0f',
        '\x80\x80\x80\x80\x10',
      ],
    };
  },

  /** Bodies of the calls of training sessions. What is read is the same once it is written and read again. */
  async tinker() {
    const { decodeForwardBackwardRequest, encodeForwardBackwardRequest } = await compiled(
      'packages/tinker-wire/dist/index.js',
    );
    const limits = { maxDatums: 64, maxTokens: 4096, maxElements: 2 ** 16 };
    return {
      async read(input) {
        const request = decodeForwardBackwardRequest(input, limits);
        const again = decodeForwardBackwardRequest(encodeForwardBackwardRequest(request), limits);
        if (!isDeepStrictEqual(again, request)) throw new Error('written and read again, it is another request');
      },
      isRefusal: (error) => isNamed(error, ['WireError']),
      words: [
        ...['target_tokens', 'weights', 'logprobs', 'advantages', 'clip_low_threshold', 'ppo', 'gspo', 'cross_entropy'],
        ...[
          '\x0a\x02',
          '\x12\x00',
          '\x18\x01',
          '\x22\x02\x02\x02',
          '\x80\x80\x80\x80\x10',
          '\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01',
        ],
      ],
    };
  },
  async zstd() {
    const { unzstd } = await compiled('packages/row-files/dist/unpack-zstd.js');
    return {
      async read(input) {
        let bytes = 0;
        for await (const piece of unzstd(piecesOf(input))) {
          bytes += piece.length;
          if (bytes > MAX_UNPACKED_BYTES) return;
        }
      },
      isRefusal: (error) => isNamed(error, ['ProductError']),
      words: [
        '\x28\xb5\x2f\xfd',
        '\x50\x2a\x4d\x18',
        '\x24\x05',
        '\x04\x58',
        '\xe0',
        '\x01\0\0',
        '\x02\0\x10\x61',
        '\x05\0\x10',
      ],
    };
  },
};

/** The result of reading; null where it is refused: the fault may be of another row. @param {() => Promise<string>} read */
async function orRefused(read) {
  try {
    return await read();
  } catch (error) {
    if (isNamed(error, ['ProductError'])) return null;
    throw error;
  }
}

/** Corrects the length at the start of a safetensors file to that of the JSON after it. @param {Buffer} input */
function withTrueHeaderLength(input) {
  const end = input.lastIndexOf('}') + 1;
  if (end <= 8) return input;
  const repaired = Buffer.from(input);
  repaired.writeBigUInt64LE(BigInt(end - 8));
  return repaired;
}

/** Corrects the checksum of every block that claims to be a tar header. @param {Buffer} input */
function withTrueChecksums(input) {
  const repaired = Buffer.from(input);
  for (let at = 0; at + 512 <= repaired.length; at += 512) {
    const block = repaired.subarray(at, at + 512);
    if (block.toString('latin1', 257, 262) !== 'ustar') continue;
    block.fill(' ', 148, 156);
    const sum = block.reduce((total, byte) => total + byte, 0);
    block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  }
  return repaired;
}

/**
 * Splits the input into pieces, which by default end within lines and blocks.
 *
 * @param {Buffer} input
 * @param {number} length
 */
async function* piecesOf(input, length = 1 + (input.length % 700)) {
  for (let at = 0; at < input.length; at += length) yield input.subarray(at, at + length);
}
