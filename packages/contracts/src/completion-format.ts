/** How `prompt` and `completion`, `instruction` and `output` can be written. */
export const COMPLETION_FORMATS = ['chat', 'text'] as const;
export type CompletionFormat = (typeof COMPLETION_FORMATS)[number];
