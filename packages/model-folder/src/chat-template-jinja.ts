import * as library from '@huggingface/jinja';

/** What a template's expressions and statements evaluate to. */
export interface JinjaValue {
  readonly type: string;
  value: unknown;
}

export interface JinjaEnvironment {
  set(name: string, value: unknown): JinjaValue;
}

export interface JinjaInterpreter {
  run(program: JinjaProgram): JinjaValue;
  /** Called for every statement and expression. */
  evaluate(statement: unknown, environment: JinjaEnvironment): JinjaValue;
}

export interface JinjaProgram {
  readonly type: string;
}

interface JinjaLibrary {
  Environment: new () => JinjaEnvironment;
  Interpreter: new (environment: JinjaEnvironment) => JinjaInterpreter;
  tokenize: (source: string, options: { lstrip_blocks: boolean; trim_blocks: boolean }) => unknown[];
  parse: (tokens: unknown[]) => JinjaProgram;
}

/**
 * `@huggingface/jinja` 0.5 with the types of what is used of it: its own type files import each other without file
 * endings, which TypeScript does not find in an ES module.
 */
export const { Environment, Interpreter, tokenize, parse } = library as unknown as JinjaLibrary;
