#!/bin/sh
# Saves FILE over and over until the DEADLINE: writer.sh FILE NAME DEADLINE. Prints how often.
#
# Plain shell, with no thought for readers. Each line of the file says which save it belongs to, and
# saves differ in length, so that rewrite.py can tell a whole one from a mixture.
file=$1 name=$2 deadline=$3
n=0
while [ "$(date +%s)" -lt "$deadline" ]; do
	n=$((n + 1))
	{
		echo '['
		seq $((400 + n % 7 * 100)) | sed "s/.*/\"$name $n &\",/"
		echo "\"$name $n end\"]"
	} >"$file" || exit 1
done
echo $n
