import { DatasetRow, type LabelledRow } from '@lorasmith/contracts';
import { Compile } from 'typebox/compile';
import { unicodeFaults } from '../next-token/row-formats.js';
import { MAX_FAULTS_PER_ROW, type RowFault, type RowFormat } from '../objective.js';
import {
  type AnsweredPrompt,
  answerFaults,
  emptyAnswer,
  partFaults,
  promptFaults,
} from '../preference/answer-faults.js';

/** Rows of an answer, and whether it is wanted. */
export const LABELLED_FORMAT: RowFormat = {
  name: 'labelled_completion',
  tellingKeys: ['label'],
  besideKeys: ['prompt', 'completion'],
  keys: '"prompt", "completion", "label" and optionally "tools" and "parallel_tool_calls"',
  schema: Compile(DatasetRow.labelled_completion),
  faults: (row) => faultsOf(row as LabelledRow),
  named(row) {
    const { prompt, completion } = row as Record<string, unknown>;
    return partFaults([
      ['prompt', prompt],
      ['completion', completion],
    ]);
  },
};

/** A row with a text as its prompt and one as its answer. */
export interface TextAnswer {
  prompt: string;
  completion: string;
}

/** A row as one of its forms. */
export function answerOfRow(row: LabelledRow): TextAnswer | AnsweredPrompt | { fault: RowFault } {
  const { prompt, completion, tools = null, parallel_tool_calls: parallelToolCalls } = row;
  if (typeof prompt !== 'string' && typeof completion !== 'string') {
    return { prompt, answer: completion, tools, parallelToolCalls };
  }
  if (typeof prompt !== 'string' || typeof completion !== 'string') {
    return refused('completion', 'prompt and completion are either both text or both lists of messages.');
  }
  if (tools !== null) return refused('tools', 'Tools belong to rows of messages, and the answer is text.');
  return { prompt, completion };
}

/** The field of a row for a path within the conversation of its prompt and its answer. */
export function paramOfAnswer({ prompt }: Pick<AnsweredPrompt, 'prompt'>, param: string): string {
  const found = /^messages\.(\d+)(.*)$/.exec(param);
  if (found === null) return param;
  const index = Number(found[1]);
  if (index < prompt.length) return `prompt.${index}${found[2]}`;
  return `completion.${index - prompt.length}${found[2]}`;
}

function faultsOf(row: LabelledRow): RowFault[] {
  const answer = answerOfRow(row);
  if ('fault' in answer) return [answer.fault];
  if ('completion' in answer) {
    const faults = unicodeFaults(Object.entries(answer));
    return faults.length > 0 || answer.completion !== '' ? faults : [emptyAnswer('completion')];
  }
  const faults = answerFaults(answer, 'completion', (param) => paramOfAnswer(answer, param));
  return [...promptFaults(answer.prompt, 'prompt'), ...faults].slice(0, MAX_FAULTS_PER_ROW);
}

function refused(param: string, message: string): { fault: RowFault } {
  return { fault: { code: 'invalid_dataset', message, param } };
}
