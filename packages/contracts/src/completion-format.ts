/** The forms in which `prompt` and `completion`, `instruction` and `output` can be written. */
export const COMPLETION_FORMATS = ['chat', 'text'] as const;
export type CompletionFormat = (typeof COMPLETION_FORMATS)[number];
/** The form of a job that names none. */
export const DEFAULT_COMPLETION_FORMAT: CompletionFormat = 'chat';
