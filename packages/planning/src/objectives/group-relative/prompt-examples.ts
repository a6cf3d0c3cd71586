import { type Examples, StoredSide } from '../../example-file/examples.js';

/** Prompts whose answers are sampled. The length of an example is that of its prompt; it has no targets until it is answered. */
export interface PromptExamples extends Examples {
  kind: 'group-relative';
  /** `[tokens]` */
  prompt(index: number): Int32Array;
}

export class StoredPrompts extends StoredSide implements PromptExamples {
  readonly kind = 'group-relative';

  prompt(index: number): Int32Array {
    return this.codes(index);
  }
}
