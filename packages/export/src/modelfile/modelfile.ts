import { loadChatTemplate, readTokenizerFiles, type TokenizerFiles } from '@lorasmith/model-folder';
import { type ChatSeparators, findSeparators } from './chat-separators.js';

export interface ModelfileOptions {
  /** The folder with tokenizer and chat template. */
  modelFolder: string;
  /** The weights that Ollama loads: a folder, or a GGUF file, beside the Modelfile. */
  from: string;
  /** A GGUF file of an adapter for it, beside the Modelfile. */
  adapter?: string;
  /** Further comments, one a line. */
  comments?: readonly string[];
}

/**
 * The Modelfile of Ollama: what to load, the chat template in Ollama's language and the texts that end an answer.
 *
 * The template is translated from what the model's own template does. If it does more than Ollama's language was translated for, it is
 * left out, and Ollama uses the one in the GGUF file, or finds one that it knows.
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
    return `${lines.join('\n')}\n`;
  }
  const separators = findSeparators(template, addsBos(files) ? files.named.bos : null);
  if (separators === null) {
    lines.push('# The chat template of the model is more than a sequence of messages, so it is not translated here:');
    lines.push('# Ollama uses the one in the GGUF file, or finds one that it knows.');
  } else {
    if (separators.startToSystem === null) lines.push('# The model knows no system messages; they are left out.');
    lines.push(`TEMPLATE """${goTemplate(separators)}"""`);
  }
  for (const stop of stopsOf(files, separators)) lines.push(`PARAMETER stop ${JSON.stringify(stop)}`);
  return `${lines.join('\n')}\n`;
}

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

/** Whether a post-processor writes BOS before a text, as Ollama then does, too. */
function addsBos({ tokenizer, named }: TokenizerFiles): boolean {
  return named.bos !== null && JSON.stringify(tokenizer.post_processor ?? null).includes(JSON.stringify(named.bos));
}
