import * as library from '@huggingface/jinja';

/** The result of an expression or statement of a template. */
export interface JinjaValue {
  readonly type: string;
  value: unknown;
  /** What a template can call on it or read of it. */
  readonly builtins: ReadonlyMap<string, JinjaValue>;
  /** How long it may be, of a text that is not known. The library's values have none. */
  readonly weight?: number;
  /** The text that a template prints. */
  toString(): string;
}

export interface JinjaEnvironment {
  /** Declares a variable with a JavaScript value. */
  set(name: string, value: unknown): JinjaValue;
}

/** A statement or an expression. */
export interface JinjaNode {
  readonly type: string;
}

export interface JinjaInterpreter {
  run(program: JinjaNode): JinjaValue;
  /** Called for every statement and expression. */
  evaluate(statement: JinjaNode | undefined, environment: JinjaEnvironment): JinjaValue;
  /** Evaluates statements and joins what they print. */
  evaluateBlock(statements: readonly JinjaNode[], environment: JinjaEnvironment): JinjaValue;
}

interface JinjaLibrary {
  /** Looks names up in its parent that it does not know. */
  Environment: new (
    parent?: JinjaEnvironment,
  ) => JinjaEnvironment;
  Interpreter: new (environment: JinjaEnvironment) => JinjaInterpreter;
  tokenize: (source: string, options: { lstrip_blocks: boolean; trim_blocks: boolean }) => unknown[];
  parse: (tokens: unknown[]) => JinjaNode;
}

/**
 * The parts of `@huggingface/jinja` 0.5 that Lorasmith uses, with their types. The library's own type files import each
 * other without file extensions, which TypeScript cannot resolve in an ES module.
 */
export const { Environment, Interpreter, tokenize, parse } = library as unknown as JinjaLibrary;
