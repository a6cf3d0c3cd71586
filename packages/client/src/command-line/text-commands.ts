import { addAbortSignal, type Readable } from 'node:stream';
import { text as textOf } from 'node:stream/consumers';
import { type ChatCompletion, type Completion, ProductError } from '@lorasmith/contracts';
import type { ChatCall, CompletionCall } from '../text-calls.js';
import { type Command, type CommandContext, type CommandOptions, print, textTable } from './command.js';

const SAMPLING_OPTIONS = {
  'max-tokens': { type: 'string', value: 'N', help: 'most tokens of the answer' },
  temperature: { type: 'string', value: 'T', help: '0: always the most likely token [0]' },
  'top-p': { type: 'string', value: 'P', help: 'only the most likely tokens that together have this probability' },
  'top-k': { type: 'string', value: 'N', help: 'only so many of the most likely tokens' },
  'min-p': { type: 'string', value: 'P', help: 'only tokens at least P times as likely as the most likely one' },
  'presence-penalty': { type: 'string', value: 'X', help: 'above 0: fewer tokens that are in the answer already' },
  'frequency-penalty': { type: 'string', value: 'X', help: 'the same, for each time that they are' },
  'repetition-penalty': { type: 'string', value: 'X', help: 'above 1: fewer tokens of the prompt and the answer' },
  seed: { type: 'string', value: 'N', help: 'the same answer each time, with a temperature' },
  stop: { type: 'string', multiple: true, value: 'TEXT', help: 'ends the answer; may be repeated' },
  compare: { type: 'boolean', help: 'the answer of the base model first' },
} as const satisfies CommandOptions;
const MODEL_HELP = [
  'MODEL is an adapter, by its id or a name that points to it, or the name of a base model.',
  '- reads the text from standard input.',
];

export const TEXT_COMMANDS: Command[] = [
  {
    name: 'chat',
    positionals: ['MODEL', 'PROMPT'],
    summary: 'Answer a message with an adapter, or with a base model',
    options: { system: { type: 'string', value: 'TEXT', help: 'what comes before the message' }, ...SAMPLING_OPTIONS },
    help: MODEL_HELP,
    async run(context) {
      const [model, prompt] = await argumentsOf(context);
      const system = context.values.system as string | undefined;
      const messages: ChatCall['messages'] = [
        ...(system === undefined ? [] : [{ role: 'system' as const, content: system }]),
        { role: 'user', content: prompt },
      ];
      return await answerEach(context, model, {
        whole: (name) => context.client.chat({ model: name, messages, ...samplingOf(context) }, context),
        async *pieces(name) {
          const chunks = context.client.streamChat({ model: name, messages, ...samplingOf(context) }, context);
          for await (const { choices } of chunks) yield choices[0]?.delta.content ?? '';
        },
      });
    },
  },
  {
    name: 'complete',
    positionals: ['MODEL', 'TEXT'],
    summary: 'Continue a text with an adapter, or with a base model',
    options: SAMPLING_OPTIONS,
    help: MODEL_HELP,
    async run(context) {
      const [model, prompt] = await argumentsOf(context);
      return await answerEach(context, model, {
        whole: (name) => context.client.complete({ model: name, prompt, ...samplingOf(context) }, context),
        async *pieces(name) {
          const chunks = context.client.streamCompletion({ model: name, prompt, ...samplingOf(context) }, context);
          for await (const { choices } of chunks) yield choices[0]?.text ?? '';
        },
      });
    },
  },
  {
    name: 'score',
    positionals: ['MODEL', 'TEXT'],
    summary: 'The log-probability of each token of a text',
    help: MODEL_HELP,
    async run(context) {
      const [model, text] = await argumentsOf(context);
      const score = await context.client.score(model, text, context);
      const rows = score.tokens.map(({ token, logprob }) => [JSON.stringify(token), logprob?.toFixed(4) ?? '-']);
      const perplexity = score.perplexity === null ? '' : `, perplexity ${score.perplexity.toPrecision(4)}`;
      const table = textTable(['TOKEN', 'LOG-PROBABILITY'], rows);
      return print(context, score, `${table}\nsum ${score.logprob.toFixed(4)}${perplexity}`);
    },
  },
];

interface Answering {
  whole(model: string): Promise<ChatCompletion | Completion>;
  /** The text of the answer as it comes. */
  pieces(model: string): AsyncGenerator<string>;
}

/** Prints the answer of a model, or with `--compare` of its base model and its own. */
async function answerEach(context: CommandContext, model: string, { whole, pieces }: Answering): Promise<number> {
  const { client, output, values, json } = context;
  const models = [model];
  if (values.compare === true) {
    const { parent } = await client.textModel(model, context);
    if (parent === null) {
      throw new ProductError('invalid_request', `--compare needs an adapter; ${model} is a base model.`, {
        param: 'model',
      });
    }
    models.unshift(parent);
  }
  for (const name of models) {
    if (json) {
      print(context, await whole(name), '');
      continue;
    }
    if (models.length > 1) output.write(`${name === models[0] ? '' : '\n'}${name}:\n`);
    for await (const piece of pieces(name)) output.write(piece);
    output.write('\n');
  }
  return 0;
}

async function argumentsOf({ positionals, input, signal }: CommandContext): Promise<[model: string, text: string]> {
  const [model, text] = positionals as [string, string];
  return [model, text === '-' ? await textOf(addAbortSignal(signal, input as Readable)) : text];
}

/** Greedy, unless a temperature is given: answers are compared. */
function samplingOf({ values }: CommandContext): Partial<ChatCall & CompletionCall> {
  const numbers = [
    ['max-tokens', 'max_tokens'],
    ['top-p', 'top_p'],
    ['top-k', 'top_k'],
    ['min-p', 'min_p'],
    ['presence-penalty', 'presence_penalty'],
    ['frequency-penalty', 'frequency_penalty'],
    ['repetition-penalty', 'repetition_penalty'],
    ['seed', 'seed'],
  ] as const;
  const given = numbers.flatMap(([flag, field]) =>
    values[flag] === undefined ? [] : [[field, numberOf(values, flag)]],
  );
  const stop = values.stop as string[] | undefined;
  return {
    temperature: values.temperature === undefined ? 0 : numberOf(values, 'temperature'),
    ...Object.fromEntries(given),
    ...(stop === undefined ? {} : { stop }),
  };
}

function numberOf(values: Record<string, unknown>, flag: string): number {
  const text = values[flag] as string;
  const value = Number(text);
  if (text.trim() !== '' && Number.isFinite(value)) return value;
  throw new ProductError('invalid_request', `--${flag} must be a number, not "${text}".`, { param: flag });
}
