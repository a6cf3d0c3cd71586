/** A model of the hub that anybody may pull, and whose family is supported. */
export interface SuggestedModel {
  repo: string;
  parameters: number;
}

/** Models of every size to begin with, the smallest first. */
export const SUGGESTED_MODELS: readonly SuggestedModel[] = [
  { repo: 'HuggingFaceTB/SmolLM2-135M-Instruct', parameters: 135e6 },
  { repo: 'HuggingFaceTB/SmolLM2-360M-Instruct', parameters: 362e6 },
  { repo: 'Qwen/Qwen3-0.6B', parameters: 596e6 },
  { repo: 'Qwen/Qwen3-1.7B', parameters: 1.72e9 },
  { repo: 'HuggingFaceTB/SmolLM3-3B', parameters: 3.08e9 },
  { repo: 'Qwen/Qwen3-4B', parameters: 4.02e9 },
  { repo: 'Qwen/Qwen3-8B', parameters: 8.19e9 },
  { repo: 'Qwen/Qwen3-14B', parameters: 14.8e9 },
  { repo: 'Qwen/Qwen3-32B', parameters: 32.8e9 },
];

/** `135 million parameters`, `4 billion parameters` */
export function parametersText(parameters: number): string {
  const isBillions = parameters >= 1e9;
  const count = Number((parameters / (isBillions ? 1e9 : 1e6)).toPrecision(3));
  return `${count} ${isBillions ? 'billion' : 'million'} parameters`;
}
