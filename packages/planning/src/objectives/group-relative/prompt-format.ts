import {
  type ChatMessage,
  conversationFaults,
  DatasetRow,
  type GradedPromptRow,
  textsOfConversation,
} from '@lorasmith/contracts';
import { Compile } from 'typebox/compile';
import { unicodeFaults } from '../next-token/row-formats.js';
import { MAX_FAULTS_PER_ROW, type RowFault, type RowFormat } from '../objective.js';
import { partFaults, promptFaults } from '../preference/answer-faults.js';

/** Rows of a prompt, and of what graders compare its answers with. */
export const PROMPT_FORMAT: RowFormat = {
  name: 'graded_prompt',
  tellingKeys: ['reference'],
  besideKeys: ['prompt'],
  keys: '"prompt", "reference" and optionally "tools" and "parallel_tool_calls"',
  schema: Compile(DatasetRow.graded_prompt),
  faults: (row) => faultsOf(row as GradedPromptRow).slice(0, MAX_FAULTS_PER_ROW),
  named: (row) => partFaults([['prompt', (row as Record<string, unknown>).prompt]]),
};

function faultsOf({ prompt, tools = null, parallel_tool_calls: parallelToolCalls }: GradedPromptRow): RowFault[] {
  if (typeof prompt !== 'string') return conversationFaultsOf(prompt, { tools, parallelToolCalls });
  if (tools !== null) {
    const message = 'Tools belong to prompts of messages, and the prompt is text.';
    return [{ code: 'invalid_dataset', message, param: 'tools' }];
  }
  if (prompt === '') {
    return [
      { code: 'invalid_dataset', message: 'The prompt is empty, so there is nothing to answer.', param: 'prompt' },
    ];
  }
  return unicodeFaults([['prompt', prompt]]);
}

function conversationFaultsOf(
  messages: readonly ChatMessage[],
  context: Parameters<typeof conversationFaults>[1],
): RowFault[] {
  const within = (param: string) => param.replace(/^messages/, 'prompt');
  const wrong = conversationFaults([...messages], context);
  if (wrong.length > 0) {
    return wrong.map(({ message, param }) => ({ code: 'invalid_dataset', message, param: within(param) }));
  }
  const texts = textsOfConversation([...messages], context.tools).map(([path, text]): [string, string] => [
    within(path),
    text,
  ]);
  return [...promptFaults(messages, 'prompt'), ...unicodeFaults(texts)];
}
