import { changeQuery } from '../../location.js';

export interface RoundSelectProps {
  label: string;
  /** The parameter of the address that has the chosen step; without it, the latest. */
  parameter: string;
  /** The steps of the rounds, ascending. */
  steps: readonly number[];
  shown: number;
  textOf: (step: number) => string;
}

/** The choice of a round by its step. */
export function RoundSelect({ label, parameter, steps, shown, textOf }: RoundSelectProps) {
  const latest = String(steps.at(-1));
  return (
    <label>
      {label}{' '}
      <select
        value={String(shown)}
        onChange={({ currentTarget: { value } }) => changeQuery({ [parameter]: value === latest ? undefined : value })}
      >
        {steps.map((step) => (
          <option key={step} value={step}>
            {textOf(step)}
          </option>
        ))}
      </select>
    </label>
  );
}
