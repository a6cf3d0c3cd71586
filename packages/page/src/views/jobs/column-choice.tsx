import { JOB_SETTING_PATHS } from '@lorasmith/contracts';
import { changeQuery } from '../../location.js';
import { fieldLabel } from '../sweeps/sweep-fields.js';
import { toggled } from './jobs-address.js';

/** The settings that are columns of the list. */
export function ColumnChoice({ columns, isOpen }: { columns: readonly string[]; isOpen: boolean }) {
  return (
    <details
      class="column-choice"
      open={isOpen}
      onToggle={({ currentTarget: { open } }) => {
        if (open !== isOpen) changeQuery({ settings: open ? 'open' : undefined });
      }}
    >
      <summary>Settings as columns{columns.length > 0 && ` (${columns.length})`}</summary>
      <ul>
        {JOB_SETTING_PATHS.map((path) => (
          <li key={path}>
            <label>
              <input
                type="checkbox"
                checked={columns.includes(path)}
                onChange={() => changeQuery({ columns: toggled(columns, path) })}
              />{' '}
              {fieldLabel(path)}
            </label>
          </li>
        ))}
      </ul>
    </details>
  );
}
