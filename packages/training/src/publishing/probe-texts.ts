import { ProductError } from '@lorasmith/contracts';
import type { DecoderArchitecture, ModelText, Tokenizer } from '@lorasmith/model-folder';
import { SeededRandom } from '@lorasmith/seeded-random';

/** One text of the probe, as the model reads it. */
export interface ProbeText {
  ids: Int32Array;
  /** Positions whose next token is compared, ascending. */
  positions: number[];
}

/** A prompt for a server that makes the model read exactly these tokens. */
export interface ProbePrompt {
  prompt: string;
  tokenIds: number[];
}

/**
 * Questions of several kinds with the beginning of an answer. They are fixed: what is published with an adapter must not
 * reveal its training data.
 */
const CONVERSATIONS = [
  { question: 'What can you help me with?', answer: 'I can help you with many things' },
  { question: 'When is the meeting? On March 4th, 2021.', answer: 'The meeting is on' },
  { question: 'Write one sentence about the sea.', answer: 'The sea is wide and' },
];

const SENTENCES = ['On 3 May 2019 at 10:30 the most important thing was that it'];

/** Positions compared in each text: the one before the answer and those that follow. */
const POSITIONS_PER_TEXT = 8;
/** The longest text; templates with a long system prompt stay below, a tokenizer that spells out every letter does not. */
const MOST_TOKENS = 512;

/** The texts of a language model's probe: conversations, if its chat template accepts them. */
export async function probeTexts(architecture: DecoderArchitecture, text: ModelText): Promise<ProbeText[]> {
  // A server needs a position for its answer.
  const most = Math.max(1, Math.min(MOST_TOKENS, architecture.maxPositions - 1));
  const isKnown = (id: number) => id < architecture.vocabSize;
  const sentences = SENTENCES.map((sentence) => {
    const ids = text.tokenizer.encodeWithSpecialTokens(sentence);
    return { ids, positions: lastPositions(ids.length) };
  });
  const texts = [...(await conversationTexts(text)), ...sentences];
  const fitting = texts.filter(({ ids }) => ids.length > 0 && ids.length <= most && ids.every(isKnown));
  if (fitting.length > 0) return fitting;
  const known = sentences[0]!.ids.filter(isKnown).slice(0, most);
  const ids = known.length === 0 ? Int32Array.of(0) : known;
  return [{ ids, positions: lastPositions(ids.length) }];
}

async function conversationTexts(text: ModelText): Promise<ProbeText[]> {
  const texts: ProbeText[] = [];
  try {
    for (const { question, answer } of CONVERSATIONS) {
      const before = await text.tokensOf({ messages: [{ role: 'user', content: question }], tools: null });
      if (before === null) return [];
      const ids = Int32Array.of(...before, ...text.tokenizer.encode(answer));
      const count = Math.min(POSITIONS_PER_TEXT, ids.length - before.length + 1);
      texts.push({ ids, positions: Array.from({ length: count }, (_, i) => before.length - 1 + i) });
    }
    return texts;
  } catch (error) {
    // A template that rejects a single question is not the adapter's fault; rows it rejects were reported in planning.
    if (error instanceof ProductError && error.code === 'chat_template_failed') return [];
    throw error;
  }
}

function lastPositions(length: number): number[] {
  const count = Math.min(POSITIONS_PER_TEXT, length);
  return Array.from({ length: count }, (_, i) => length - count + i);
}

/**
 * The prompt that ends at a position of a text; null if the text of its tokens is tokenized differently, so that a server
 * that accepts only text could not be checked with it.
 */
export function promptAt({ ids }: ProbeText, position: number, tokenizer: Tokenizer): ProbePrompt | null {
  const prefix = ids.slice(0, position + 1);
  const spelled = tokenizer.decode(prefix);
  const bos = tokenizer.bosTokenId === null ? undefined : tokenizer.specialTokens.get(tokenizer.bosTokenId);
  const withoutBos = bos !== undefined && spelled.startsWith(bos) ? spelled.slice(bos.length) : spelled;
  // Servers add what the tokenizer adds: the BOS token, or a space before the first word.
  for (const prompt of new Set([withoutBos, withoutBos.replace(/^ /, ''), spelled])) {
    const read = tokenizer.encodeWithSpecialTokens(prompt);
    if (read.length === prefix.length && read.every((id, i) => id === prefix[i])) {
      return { prompt, tokenIds: [...prefix] };
    }
  }
  return null;
}

/** Numbers of mean 0 and variance 1, always the same ones: multiples of 1/64, so that they are short in a manifest and exact in every dtype. */
export function spreadNumbers(count: number): Float32Array {
  const random = new SeededRandom(0, 'features of the probe');
  return Float32Array.from({ length: count }, () => Math.round(64 * Math.sqrt(3) * (2 * random.next() - 1)) / 64);
}
