import { AXES, type AxisName } from '../../charts/chart-axis.js';
import { changeQuery } from '../../location.js';

/** Settings of the curves of a job, which the address has. */
export interface ChartSettings {
  /** See `smoothed`. */
  smoothing: number;
  isLogarithmic: boolean;
  axis: AxisName;
}

const SMOOTHING = 0.6;
const MAX_SMOOTHING = 0.99;

export function chartSettingsOf(query: URLSearchParams): ChartSettings {
  const given = Number(query.get('smooth') ?? SMOOTHING);
  return {
    smoothing: given >= 0 && given <= MAX_SMOOTHING ? given : SMOOTHING,
    isLogarithmic: query.get('log') === 'yes',
    axis: AXES.find((name) => name === query.get('x')) ?? 'step',
  };
}

export function ChartControls({ smoothing, isLogarithmic, axis }: ChartSettings) {
  return (
    <div class="chart-controls">
      <label>
        Smooth{' '}
        <input
          type="range"
          min="0"
          max={MAX_SMOOTHING}
          step="0.01"
          value={smoothing}
          onInput={({ currentTarget: { value } }) =>
            changeQuery({ smooth: Number(value) === SMOOTHING ? undefined : value })
          }
        />
      </label>
      <label>
        <input
          type="checkbox"
          checked={isLogarithmic}
          onChange={({ currentTarget }) => changeQuery({ log: currentTarget.checked ? 'yes' : undefined })}
        />{' '}
        Log
      </label>
      <label>
        Over{' '}
        <select
          value={axis}
          onChange={({ currentTarget: { value } }) => changeQuery({ x: value === 'step' ? undefined : value })}
        >
          {AXES.map((name) => (
            <option key={name} value={name}>
              {name === 'step' ? 'steps' : name}
            </option>
          ))}
        </select>
      </label>
    </div>
  );
}
