import type { GenerationRequest } from '@lorasmith/contracts';
import { schemaOfCall } from '@lorasmith/json-grammar';
import type { CallSyntax, ModelText, Tokenizer } from '@lorasmith/model-folder';
import { CallParser, WHOLE_CALL } from './call-parser.js';
import type { ChoiceCalls } from './choice-text.js';

/** The calls of tools that an answer may have. */
export interface AnswerCalls {
  /** The text with which the assistant's turn begins, so that a call follows. */
  begun: string;
  /** The schema of an answer that must be a call; null: the model writes what it likes. */
  schema: unknown;
  /** Makes what takes the calls out of one choice. */
  ofChoice(): ChoiceCalls;
}

/** Null where no calls can be in the answer, or nobody knows how the model writes them. */
export async function callsOf({ input }: GenerationRequest, text: ModelText): Promise<AnswerCalls | null> {
  if (input.kind !== 'chat' || input.tools === null) return null;
  const { tools, must_call: mustCall, one_call: isOne } = input;
  const syntax = (await text.template())?.callSyntax() ?? null;
  if (mustCall !== null) {
    const isObject = syntax?.form.kind === 'object';
    const argumentsKey = syntax?.form.kind === 'object' ? syntax.form.argumentsKey : 'arguments';
    const chosen = tools.map((tool) => tool.function).filter(({ name }) => mustCall.includes(name));
    return {
      begun: isObject ? syntax.before : '',
      schema: schemaOfCall(chosen, argumentsKey),
      ofChoice: () => ({ parser: new CallParser(WHOLE_CALL, mustCall), tokens: new Map(), isOne: true }),
    };
  }
  if (syntax === null) return null;
  const names = tools.map((tool) => tool.function.name);
  const tokens = specialTokensIn(syntax, text.tokenizer);
  return { begun: '', schema: null, ofChoice: () => ({ parser: new CallParser(syntax, names), tokens, isOne }) };
}

function specialTokensIn({ before, after, form }: CallSyntax, { specialTokens }: Tokenizer): Map<number, string> {
  const written = before + (form.kind === 'named' ? form.middle : '') + after;
  // What ends a turn is written after calls, too, but is no part of them.
  const isOfCall = (text: string) => written.includes(text) && !/^<\|.*(end|eot|eom).*\|>$|^<\/s>$/.test(text);
  return new Map([...specialTokens].filter(([, text]) => isOfCall(text)));
}
