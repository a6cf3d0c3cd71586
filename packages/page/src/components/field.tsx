import type { ComponentChildren } from 'preact';
import { useId } from 'preact/hooks';

/** The attributes of the input of a field, so that label, help and error belong to it. */
export interface FieldInput {
  id: string;
  'aria-describedby': string | undefined;
  'aria-invalid': boolean;
}

export interface FieldProps {
  label: string;
  help?: ComponentChildren;
  /** The fault of the value. */
  error?: string | undefined;
  children: (input: FieldInput) => ComponentChildren;
}

/** A labelled input: `<Field label="Name">{(input) => <input {...input} />}</Field>`. */
export function Field({ label, help, error, children }: FieldProps) {
  const id = useId();
  const described = [help !== undefined && `${id}-help`, error !== undefined && `${id}-error`]
    .filter(Boolean)
    .join(' ');
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children({ id, 'aria-describedby': described || undefined, 'aria-invalid': error !== undefined })}
      {help !== undefined && (
        <p class="help" id={`${id}-help`}>
          {help}
        </p>
      )}
      {error !== undefined && (
        <p class="field-error" id={`${id}-error`}>
          {error}
        </p>
      )}
    </div>
  );
}
