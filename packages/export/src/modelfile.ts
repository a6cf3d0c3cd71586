import type { Message } from '@lorasmith/contracts';
import { type ChatTemplate, loadChatTemplate, readTokenizerFiles, type TokenizerFiles } from '@lorasmith/model-folder';

export interface ModelfileOptions {
  /** The folder with tokenizer and chat template. */
  modelFolder: string;
  /** The weights that Ollama loads: a folder, or a GGUF file, in the folder of the Modelfile. */
  from: string;
  /** A GGUF file of an adapter for it, in the folder of the Modelfile. */
  adapter?: string;
  /** Further comments, one a line. */
  comments?: readonly string[];
}

/**
 * The Modelfile of Ollama: what to load, the chat template in Ollama's language and the texts that end an answer.
 *
 * The template is translated from what the model's own template does. If it does more than Ollama's language was translated for, it is
 * left out. Ollama then takes the one of its own that is nearly the same text as the one in the GGUF file; without such a one it
 * continues the messages as they are.
 *
 * Specification: https://docs.ollama.com/modelfile
 *
 * @returns null for a model without tokenizer, which Ollama cannot load
 * @throws ProductError `model_file_corrupt`, `chat_template_failed` for a template that is not valid
 */
export async function modelfile(options: ModelfileOptions): Promise<string | null> {
  const { modelFolder, from, adapter, comments = [] } = options;
  const files = await readTokenizerFiles(modelFolder);
  if (files === null) return null;
  const template = await loadChatTemplate(modelFolder);
  const lines = ['# ollama create NAME -f Modelfile', ...comments.map((comment) => `# ${comment}`), `FROM ${from}`];
  if (adapter !== undefined) lines.push(`ADAPTER ${adapter}`);
  if (template === null) {
    lines.push('# The model has no chat template: it continues a text as it is.', 'TEMPLATE """{{ .Prompt }}"""');
    return `${[...lines, ...PARAMETERS].join('\n')}\n`;
  }
  const separators = findSeparators(template, addsBos(files) ? files.named.bos : null);
  if (separators === null) {
    lines.push('# The chat template of the model is more than a sequence of messages, so it is not translated here:');
    lines.push('# Ollama takes one of its own if that is nearly the same, or else none: then write it here.');
  } else {
    if (separators.startToSystem === null) lines.push('# The model knows no system messages; they are left out.');
    lines.push(`TEMPLATE """${goTemplate(separators)}"""`);
  }
  const stops = stopsOf(files, separators).map((stop) => `PARAMETER stop ${JSON.stringify(stop)}`);
  return `${[...lines, ...PARAMETERS, ...stops].join('\n')}\n`;
}

/** Ollama's default divides the likelihood of tokens that were there by 1.1, also at temperature 0: other answers than the model's. */
const PARAMETERS = ['PARAMETER repeat_penalty 1'];

/** The template in the language of Go's text/template, with the values that Ollama gives it. */
function goTemplate(separators: ChatSeparators): string {
  const { startToSystem, systemToUser, startToUser, userToAssistant, assistantToUser, userToAnswer } = separators;
  const write = (value: string) => `{{ ${goString(value)} }}`;
  const branch = (role: string, body: string) => `if eq .Role "${role}" }}${body}{{ .Content }}`;
  const afterSystem = systemToUser === null ? '' : `{{ if eq $last "system" }}${write(systemToUser)}{{ else }}`;
  const user =
    `{{ if eq $last "assistant" }}${write(assistantToUser)}{{ else }}${afterSystem}${write(startToUser)}` +
    `${systemToUser === null ? '' : '{{ end }}'}{{ end }}`;
  const system = startToSystem === null ? '' : `{{ else ${branch('system', write(startToSystem))}`;
  return (
    '{{ $last := "" }}{{ range .Messages }}' +
    `{{ ${branch('user', user)}` +
    `{{ else ${branch('assistant', write(userToAssistant))}` +
    `${system}{{ end }}{{ $last = .Role }}{{ end }}${write(userToAnswer)}`
  );
}

/** A string literal of Go. JSON's escapes are Go's, except for half surrogates, which a text does not contain. */
function goString(value: string): string {
  return JSON.stringify(value);
}

/** Texts that end an answer: what stands behind one first, if it is a token of its own, and the token that ends a text. */
function stopsOf({ tokenizer, named }: TokenizerFiles, separators: ChatSeparators | null): string[] {
  const added = (tokenizer.added_tokens ?? []) as { content: string }[];
  const after = separators?.afterAnswer.trimStart() ?? '';
  const [ends] = added
    .map(({ content }) => content)
    .filter((content) => content !== '' && after.startsWith(content))
    .sort((a, b) => b.length - a.length);
  return [...new Set([ends, named.eos])].filter((stop) => typeof stop === 'string' && stop !== '') as string[];
}

/** True if a post-processor writes BOS before a text, as Ollama then does, too. */
function addsBos({ tokenizer, named }: TokenizerFiles): boolean {
  return named.bos !== null && JSON.stringify(tokenizer.post_processor ?? null).includes(JSON.stringify(named.bos));
}

/** The text of a chat template between two messages, by their roles; `start` and `end` are those of the text. */
export interface ChatSeparators {
  /** Null if the template refuses system messages. */
  startToSystem: string | null;
  systemToUser: string | null;
  startToUser: string;
  userToAssistant: string;
  assistantToUser: string;
  /** Behind the last message of the user: the start of the answer. */
  userToAnswer: string;
  /** Behind an answer, up to the next message of the user or the end of the text: what ends a turn comes first. */
  afterAnswer: string;
}

type Role = 'system' | 'user' | 'assistant';

/** Texts that no template contains. */
const text = (index: number) => `lorasmith${'x'.repeat(index + 1)}z`;
const conversation = (...roles: Role[]): Message[] => roles.map((role, index) => ({ role, content: text(index) }));

/** Probes with and without system message, of one turn and of several. */
const PROBES: Role[][] = [
  ['user'],
  ['user', 'assistant', 'user'],
  ['user', 'assistant', 'user', 'assistant', 'user'],
  ['system', 'user'],
  ['system', 'user', 'assistant', 'user'],
  ['system', 'user', 'assistant', 'user', 'assistant', 'user'],
];

/**
 * Finds what a chat template writes between messages, from what it makes of some conversations.
 *
 * @param bos - removed from the start of the text, because the reader of the template adds it; null: it stays
 * @returns null if what it writes between two messages depends on more than their roles
 */
export function findSeparators(template: ChatTemplate, bos: string | null): ChatSeparators | null {
  const between = new Map<string, string>();
  let knowsSystem = true;
  for (const roles of PROBES) {
    const texts = partsOf(template, roles, bos, true);
    if (texts === null) {
      if (roles[0] !== 'system') return null;
      knowsSystem = false;
      continue;
    }
    for (const [index, part] of texts.entries()) {
      const pair = `${roles[index - 1] ?? 'start'} ${roles[index] ?? 'answer'}`;
      if ((between.get(pair) ?? part) !== part) return null;
      between.set(pair, part);
    }
  }
  const answered = partsOf(template, ['user', 'assistant'], bos, false);
  if (answered === null) return null;
  const of = (pair: string) => between.get(pair)!;
  return {
    startToSystem: knowsSystem ? of('start system') : null,
    systemToUser: knowsSystem ? of('system user') : null,
    startToUser: of('start user'),
    userToAssistant: of('user assistant'),
    assistantToUser: of('assistant user'),
    userToAnswer: of('user answer'),
    afterAnswer: answered.at(-1)!,
  };
}

/** The texts around the messages, one more than there are; null if the template refuses them or changes their order. */
function partsOf(
  template: ChatTemplate,
  roles: Role[],
  bos: string | null,
  addGenerationPrompt: boolean,
): string[] | null {
  let rest: string;
  try {
    rest = template.render(conversation(...roles), { addGenerationPrompt });
  } catch {
    return null;
  }
  if (bos !== null && bos !== '' && rest.startsWith(bos)) rest = rest.slice(bos.length);
  const parts: string[] = [];
  for (const index of roles.keys()) {
    const [before, ...after] = rest.split(text(index));
    // A message that is missing, or that stands there twice.
    if (after.length !== 1) return null;
    parts.push(before!);
    rest = after[0]!;
  }
  return [...parts, rest];
}
