import { ApiError } from '../api.ts';

/** An error in pasted text or in a loaded file, with its remedy. */
export class InputError extends ApiError {
  constructor(message: string, remedy: string) {
    super(0, 'input', message, remedy);
  }
}
