import * as library from '@huggingface/jinja';

/** The result of an expression or statement of a template. */
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
 * The parts of `@huggingface/jinja` 0.5 that Lorasmith uses, with their types. The library's own type files import each
 * other without file extensions, which TypeScript cannot resolve in an ES module.
 */
export const { Environment, Interpreter, tokenize, parse } = library as unknown as JinjaLibrary;
