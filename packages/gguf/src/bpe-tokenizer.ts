import type { GgufMetadata } from './gguf-metadata.js';
import { PRE_TOKENIZATIONS, type PreTokenization } from './pre-tokenizer.js';

const KEY = {
  model: 'tokenizer.ggml.model',
  pre: 'tokenizer.ggml.pre',
  tokens: 'tokenizer.ggml.tokens',
  types: 'tokenizer.ggml.token_type',
  merges: 'tokenizer.ggml.merges',
} as const;

/** `llama_token_type`. */
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;

/** The tokenizer files of a Hugging Face folder. */
export interface TokenizerFiles {
  /** tokenizer.json. */
  tokenizer: Record<string, unknown>;
  /** tokenizer_config.json. */
  tokenizerConfig: Record<string, unknown>;
  /** chat_template.jinja; null if the model has none. */
  chatTemplate: string | null;
}

/**
 * Builds the tokenizer files of a byte-level BPE (`tokenizer.ggml.model` "gpt2").
 *
 * @throws ProductError model_not_supported for another kind of tokenizer or an unknown `tokenizer.ggml.pre`;
 *   model_file_corrupt for inconsistent tokens and merges
 */
export function bpeTokenizerFiles(metadata: GgufMetadata): TokenizerFiles {
  const preTokenization = choosePreTokenization(metadata);
  const tokens = metadata.texts(KEY.tokens);
  const vocab = vocabularyOf(tokens, metadata);
  const special = (key: string) => {
    const id = metadata.tokenId(`tokenizer.ggml.${key}`, tokens.length);
    return id === null ? null : { id, content: tokens[id]! };
  };
  const bos = special('bos_token_id');
  const eos = special('eos_token_id');
  const begin = metadata.flag('tokenizer.ggml.add_bos_token', preTokenization.addBos && bos !== null) ? [bos] : [];
  const end = metadata.flag('tokenizer.ggml.add_eos_token', false) ? [eos] : [];
  const chatTemplate = metadata.text('tokenizer.chat_template') ?? null;
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: addedTokens(tokens, metadata),
    normalizer: preTokenization.normalizer,
    pre_tokenizer: preTokenization.preTokenizer,
    post_processor: postProcessor(begin, end, metadata),
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: preTokenization.ignoreMerges,
      vocab: Object.fromEntries(vocab),
      merges: checkedMerges(vocab, metadata),
    },
  };
  const names = {
    bos_token: bos,
    eos_token: eos,
    unk_token: special('unknown_token_id'),
    pad_token: special('padding_token_id'),
  };
  const tokenizerConfig = {
    ...Object.fromEntries(Object.entries(names).flatMap(([name, token]) => (token ? [[name, token.content]] : []))),
    // In every release of transformers, this class uses tokenizer.json as it is.
    tokenizer_class: 'PreTrainedTokenizerFast',
    clean_up_tokenization_spaces: false,
    // Repeats the template for loaders that do not read chat_template.jinja.
    ...(chatTemplate === null ? {} : { chat_template: chatTemplate }),
  };
  return { tokenizer, tokenizerConfig, chatTemplate };
}

function choosePreTokenization(metadata: GgufMetadata): PreTokenization {
  const model = metadata.text(KEY.model);
  if (model !== 'gpt2') {
    throw metadata.unsupported(
      KEY.model,
      `"${String(model).slice(0, 100)}" is not supported; "gpt2" (byte-level BPE) is`,
    );
  }
  const pre = metadata.text(KEY.pre);
  if (pre === undefined) {
    throw metadata.unsupported(KEY.pre, 'is missing: the file is too old to say how its tokenizer splits text');
  }
  const preTokenization = PRE_TOKENIZATIONS.get(pre);
  if (!preTokenization) {
    const known = [...PRE_TOKENIZATIONS.keys()].join(', ');
    throw metadata.unsupported(KEY.pre, `"${pre.slice(0, 100)}" is not supported; ${known} are`);
  }
  return preTokenization;
}

function vocabularyOf(tokens: string[], metadata: GgufMetadata): Map<string, number> {
  const vocab = new Map<string, number>();
  tokens.forEach((token, id) => {
    const otherId = vocab.get(token);
    if (otherId !== undefined) throw metadata.corrupt(KEY.tokens, `has the same token at ${otherId} and ${id}`);
    vocab.set(token, id);
  });
  return vocab;
}

/** Tokens that are matched in the text before it is split. Control tokens are special, user-defined tokens are not. */
function addedTokens(tokens: string[], metadata: GgufMetadata) {
  if (!metadata.has(KEY.types)) return [];
  const types = metadata.integers(KEY.types);
  if (types.length !== tokens.length) {
    throw metadata.corrupt(KEY.types, `has ${types.length} entries for ${tokens.length} tokens`);
  }
  return tokens.flatMap((content, id) => {
    const type = types[id]!;
    if (type !== CONTROL && type !== UNKNOWN && type !== USER_DEFINED) return [];
    const special = type !== USER_DEFINED;
    return [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special }];
  });
}

/** Checks the merges, to name an invalid one: the loader of tokenizer.json would reject it without details. */
function checkedMerges(vocab: ReadonlyMap<string, number>, metadata: GgufMetadata): string[] {
  const merges = metadata.texts(KEY.merges);
  merges.forEach((merge, index) => {
    const space = merge.indexOf(' ', 1);
    const left = merge.slice(0, space);
    const right = merge.slice(space + 1);
    if (space === -1 || !vocab.has(left) || !vocab.has(right) || !vocab.has(left + right)) {
      throw metadata.corrupt(KEY.merges, `entry ${index} does not join two tokens to a third`);
    }
  });
  return merges;
}

type SpecialToken = { id: number; content: string } | null;

function postProcessor(begin: SpecialToken[], end: SpecialToken[], metadata: GgufMetadata): unknown {
  const bytes = { type: 'ByteLevel', add_prefix_space: true, trim_offsets: false, use_regex: true };
  const added = [...begin, ...end];
  if (added.length === 0) return bytes;
  const known = added.filter((token) => token !== null);
  if (known.length < added.length) {
    throw metadata.corrupt('tokenizer.ggml.add_bos_token', 'requires a token that the file does not define');
  }
  const part = (token: SpecialToken, type_id: number) => ({ SpecialToken: { id: token!.content, type_id } });
  const text = (id: 'A' | 'B', type_id: number) => [
    ...begin.map((token) => part(token, type_id)),
    { Sequence: { id, type_id } },
    ...end.map((token) => part(token, type_id)),
  ];
  const template = {
    type: 'TemplateProcessing',
    single: text('A', 0),
    pair: [...text('A', 0), ...text('B', 1)],
    special_tokens: Object.fromEntries(
      known.map(({ id, content }) => [content, { id: content, ids: [id], tokens: [content] }]),
    ),
  };
  return { type: 'Sequence', processors: [bytes, template] };
}
