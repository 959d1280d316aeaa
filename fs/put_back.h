/*
 * put_back: a program took a name away, made it anew, and what it saved there was refused (vim, git): the name would be left empty. So
 * it gets back what it had.
 */
#ifndef INTACTFS_FS_PUT_BACK_H
#define INTACTFS_FS_PUT_BACK_H

#include "fs/save.h"

/* At the end of a refused save, before those who wait for that go on. No lock may be held. Nothing happens when others have saved the file
 * since. What fails is logged: the content is in the history. */
void put_back(struct save *save);

#endif
