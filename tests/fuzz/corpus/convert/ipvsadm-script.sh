#!/bin/sh
# the director's table
VIP=172.25.3.100
RIP1="172.25.3.2"
echo 1 > /proc/sys/net/ipv4/ip_forward
/sbin/ipvsadm -C
ipvsadm --set 900 120 300
ipvsadm -A -t $VIP:80 -s wrr -p
ipvsadm -a -t ${VIP}:80 -r $RIP1 -i \
    -w 2
ipvsadm -a -t $VIP:80 -r 172.25.3.3:8080 -i -x 100 -y 50
ipvsadm -a -t $VIP:80 -r $RIP9 -i
ipvsadm -e -t $VIP:80 -r 172.25.3.3 -i -w 7   # later
ipvsadm -A -u $VIP:53
ipvsadm -D -u $VIP:53
ipvsadm -d -t $VIP:81 -r 172.25.3.3
ipvsadm --start-daemon master --mcast-interface eth1
ipvsadm -L -n
