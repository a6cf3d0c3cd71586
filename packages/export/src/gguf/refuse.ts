import { ProductError } from '@lorasmith/contracts';

/** The error for something of a base model that llama.cpp, or its file format, cannot express. */
export function inexpressible(model: string, what: string): ProductError {
  return new ProductError('model_not_supported', `${model} cannot be written as GGUF: ${what}.`);
}

/** Refuses a model, on a condition, for something that llama.cpp does not have in its family. */
export type RefuseIf = (condition: boolean, what: string) => void;
